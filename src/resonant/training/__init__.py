"""Tasks, the loop, workers, comparison and statistics."""
