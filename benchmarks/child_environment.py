"""The environment of a benchmark's processes: they import what the benchmark imports."""

import os
import sys


def child_environment() -> dict[str, str]:
    """Return the environment of this process, with its import path in ``PYTHONPATH``."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
