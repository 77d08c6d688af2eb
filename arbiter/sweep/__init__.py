"""Runs with several thresholds and run types, over shared answers."""
