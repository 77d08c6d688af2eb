"""One or several runs beside one another: as a table, as CSV and as plots."""
