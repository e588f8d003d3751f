"""Speed and memory against limits: ``resonant bench``."""
