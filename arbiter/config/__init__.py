"""The configuration of an experiment: one TOML file, its tables, and the options that override its keys."""
