"""Arbiter inside other programs: one object over one ring, for any number of callers."""
