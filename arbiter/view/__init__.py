"""The page over all runs of a folder (``arbiter view``), and its JSON API (the extra ``gateway``)."""
