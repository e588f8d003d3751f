"""Attention that synchronises."""
