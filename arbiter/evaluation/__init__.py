"""Evaluate how well scores predict which steps to escalate, and compare curves of runs.

``docs/how-to/evaluate-a-router.md`` has the formulas. Importing this package raises ``ConfigError`` if numpy or scipy
is missing, so commands import it only when they run. Both come with the extra ``train``.
"""

import importlib.util

from arbiter.protocols.errors import ConfigError

_MISSING = [name for name in ("numpy", "scipy") if importlib.util.find_spec(name) is None]
if _MISSING:
    raise ConfigError(
        f"evaluation needs {' and '.join(_MISSING)}, not installed: pip install 'arbiter-reasoning[train]'"
    )
