"""A run over many problems: its folder, its results, their summary, and reports on several runs."""
