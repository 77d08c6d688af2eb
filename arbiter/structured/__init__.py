"""Structured text: validation against JSON schemas."""
