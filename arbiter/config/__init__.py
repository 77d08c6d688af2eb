"""The configuration of an experiment: a TOML file, its tables, and the options that override its keys."""
