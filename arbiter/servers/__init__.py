"""The servers that a configuration describes: planned, checked, started, watched and stopped (``arbiter up``)."""
