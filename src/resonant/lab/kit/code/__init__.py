"""Code and values of the user: hashed by what they are, sent to other processes."""
