"""The page and the tables of a comparison, whatever it is about."""
