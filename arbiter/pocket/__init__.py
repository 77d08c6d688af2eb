"""The embedded default: a world of checkable problems, and four tiny models that live in it."""
