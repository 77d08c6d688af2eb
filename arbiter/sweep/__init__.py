"""One run for each threshold, over answers that all of them share."""
