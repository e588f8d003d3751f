"""How much a comparison takes at most."""

MOST_SEEDS = 1000
MOST_WORKERS = 256
