"""Text: next-token prediction."""
