"""The people of Arbiter: five actors, their mailboxes and supervision, and the pure routing policies."""
