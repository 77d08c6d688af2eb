"""Arbiter: step-level speculative reasoning. What users import is here."""
