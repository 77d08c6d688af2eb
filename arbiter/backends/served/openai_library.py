"""The HTTP library of the installed ``openai`` package."""

import importlib
from types import ModuleType


def http_library(openai: ModuleType) -> ModuleType:
    """Return the module ``httpx`` or ``httpx2``, whichever ``openai`` uses."""
    return importlib.import_module(type(openai.DEFAULT_CONNECTION_LIMITS).__module__.partition(".")[0])
