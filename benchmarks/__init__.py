"""Speed and memory against limits: ``python -m benchmarks``."""
