"""A run's log in the formats of other tools: a Perfetto trace, a page for the browser, OpenTelemetry spans."""
