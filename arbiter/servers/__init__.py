"""Plan, check, start, monitor and stop the servers that a configuration describes (``arbiter up``)."""
