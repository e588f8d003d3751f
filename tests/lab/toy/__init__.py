"""A kind of data of one's own in one folder: what it takes to be compared, reported and listed."""
