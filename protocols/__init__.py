"""The shared types of Arbiter: records, messages, events, ids, errors and ports. Imports only msgspec."""
