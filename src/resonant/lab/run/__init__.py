"""One training: loop, worker, pool, process, cost."""
