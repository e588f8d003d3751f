"""Made-up sequences that ask for one ability each."""
