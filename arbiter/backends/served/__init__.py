"""Models behind servers: completions and scores over HTTP."""
