"""Problems to solve: from the pocket world, a JSONL file, or the Hugging Face hub."""

from arbiter.data.loading import load_problems
from arbiter.data.problems import Fields, Problem

__all__ = ["Fields", "Problem", "load_problems"]
