"""Runs over many problems: run folders, results, summaries, and reports on several runs."""
