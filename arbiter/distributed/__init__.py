"""One run on several workers: a ledger hands out the problems, and each worker has a ring and a segment of the log."""
