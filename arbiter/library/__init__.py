"""Arbiter inside other programs: one object with one ring, for any number of callers."""
