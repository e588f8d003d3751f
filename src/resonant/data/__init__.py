"""Preparation of data and resumable batches. Knows no models."""
