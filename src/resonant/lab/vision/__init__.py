"""Images: which class, and pixel after pixel."""
