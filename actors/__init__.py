"""The five actors, their mailboxes and supervision, and the routing policies."""
