"""The words of Arbiter: records, messages, errors and ports. Imports msgspec alone."""
