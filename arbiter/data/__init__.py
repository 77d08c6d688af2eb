"""Load problems from the pocket world, files, folders or the Hugging Face hub."""

from arbiter.config.run_tables import Fields
from arbiter.data.loading import load_problems
from arbiter.data.problems import Problem

__all__ = ["Fields", "Problem", "load_problems"]
