"""Answers of a required form: JSON Schemas, and whether a text fits one."""
