"""The paper's comparison, from one sweep: what ``arbiter reproduce`` measures, and how it tells it."""
