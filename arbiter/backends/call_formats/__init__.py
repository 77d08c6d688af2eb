"""The forms in which families of models write calls of tools, read from whole steps."""
