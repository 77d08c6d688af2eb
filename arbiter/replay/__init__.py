"""Replay recorded runs without models: check that a run repeats its log, or simulate it under other settings."""
