"""Architectures, one a file; their configurations need no torch (`models.configs`)."""
