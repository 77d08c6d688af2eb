"""The words of Arbiter: records, messages, ids, errors and ports. Imports msgspec alone."""
