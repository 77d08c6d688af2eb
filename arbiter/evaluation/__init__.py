"""How well a score tells which steps to escalate, and curves of runs; ``docs/how-to/evaluate-a-router.md`` has the formulas.

Importing it raises ``ConfigError`` where numpy or scipy is missing, so commands import it when they are called.
Both come with the extra ``train``.
"""

import importlib.util

from arbiter.protocols.errors import ConfigError

_MISSING = [name for name in ("numpy", "scipy") if importlib.util.find_spec(name) is None]
if _MISSING:
    raise ConfigError(
        f"evaluation needs {' and '.join(_MISSING)}, not installed here: pip install 'arbiter-reasoning[train]'"
    )
