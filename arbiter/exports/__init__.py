"""A run's log in the formats of other tools: a trace, a page for the browser, spans, a log of Inspect."""
