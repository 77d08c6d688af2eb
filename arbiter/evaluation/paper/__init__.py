"""The comparison of the paper, from one sweep: what ``arbiter reproduce`` measures and reports."""
