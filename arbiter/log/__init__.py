"""The log is the run: writing it, reading it, and what it says."""
