"""Export a run's log to the formats of other tools: a trace, a web page, spans, and a log of inspect_ai."""
