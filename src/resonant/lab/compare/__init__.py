"""A comparison: plan, options, folders, sweep, estimate, display."""
