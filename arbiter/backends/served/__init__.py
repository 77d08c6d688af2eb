"""Served models: completions and scores over HTTP."""
