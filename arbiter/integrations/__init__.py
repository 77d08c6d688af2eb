"""Arbiter as a part of other programs' own plug-in systems (``docs/how-to/frameworks.md``)."""
