"""Comparisons of one's own: any function that trains and scores, or a problem for our loop."""
