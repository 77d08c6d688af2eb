"""Reports that compare one or several runs: tables, CSV and plots."""
