"""Plug-ins of Arbiter for other frameworks (``docs/how-to/frameworks.md``)."""
