"""Pretrained language models that learn by low-rank adapters."""
