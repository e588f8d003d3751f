"""Speech whose phonemes have known ends."""
