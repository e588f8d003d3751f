"""What every kind of data stands on: configurations, experiments, domains, results, statistics."""
