"""The event log of a run: writing, reading and interpreting it."""
