"""The identity of a run: the configuration values that decide its results, without operational ones."""

import hashlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import msgspec

from arbiter.actors.policies import target_names
from arbiter.config.config import Config
from arbiter.config.local_paths import is_same_model
from arbiter.config.policy_tables import TABLES
from arbiter.config.run_tables import STEPPED
from arbiter.data import Problem
from arbiter.data.known_sets import grader_of, has_whole_blocks
from arbiter.grading.found_graders import reads_row
from arbiter.log.run import SHARED
from arbiter.protocols.errors import RunError
from arbiter.protocols.records import PENALTIES

OPERATIONAL = (
    "adaptive",
    "compare",
    "cpu_threads",
    "data.allow_unsandboxed",
    "data.sandbox.python",
    "data.sandbox.workers",
    "limits.problems",
    "block",
    "lookahead",
    "log.level",
    "log.sync",
    "models.*.api_key_env",
    "models.*.batch",
    "models.*.cache_bytes",
    "models.*.device",
    "models.*.engine",
    "models.*.gather",
    "models.*.in_flight",
    "models.*.price",
    "models.*.price.*",
    "models.*.priority",
    "models.*.retries",
    "models.*.server.data_parallel",
    "models.*.server.device",
    "models.*.server.engine",
    "models.*.server.gpus",
    "models.*.server.host",
    "models.*.server.memory_fraction",
    "models.*.server.python",
    "models.*.server.replicas",
    "models.*.server.sessions",
    "models.*.server.tensor_parallel",
    "models.*.timeout",
    "models.*.url",
    "ray.address",
    "ray.lease",
    "ray.num_cpus",
    "ray.workers",
    "serve.aliases.*",
    "serve.caps.at_cap",
    "serve.caps.per_day",
    "serve.caps.per_minute",
    "serve.choices",
    "serve.reasoning",
    "serve.shadow",
    "serve.slo.first_output_token",
    "serve.slo.first_token",
    "serve.slo.inter_token",
    "serve.slo.latency",
    "serve.stream",
    "verify",
)
"""Patterns of the keys that may change when a run is resumed. ``docs/reference/log.md`` gives the reason for each."""


_LATER = (
    "budget",
    "models.*.api",
    "models.*.calls",
    "models.*.cost",
    "models.*.examples",
    "models.*.labels",
    "models.*.server",
    "models.*.server.*",
    "models.*.step_tag",
    "models.*.system",
    "step_offsets",
)
"""Keys that logs of earlier versions lack. They are left out while unset, so that those runs can be resumed."""

_LATER_ZEROS = (*(f"sampling.{name}" for name in PENALTIES), "token_exact")
"""As ``_LATER``, of numbers and switches: left out while they are 0 or off."""

_GRADER, _USUAL_GRADER = "data.grader", "math"
_USUAL_GRADERS = [
    " and ".join(names) for size in (1, 2, 3) for names in combinations(("calls", "choice", "math"), size)
]
"""The graders of runs whose configuration names none."""


_PATHS = (
    "models.*.model",
    "models.*.tokenizer",
    "models.*.server.path",
    "models.*.server.speculation.model",
)
"""Keys that hold a path or a name of the hub."""


def identity(config: Config, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the values that decide the results of a run, by their full keys.

    Operational keys, models that the run does not call, and thresholds of other run types are left out.
    ``confidence`` is the confidence metric that the run requests; it is absent if the run requests none.
    ``whole_blocks`` is only there if steps hold whole blocks, and ``boundary`` only if steps do not end at every
    separator. Problems are identified by their number and a digest,
    independent of their source.
    """
    called, names = {f"models.{name}." for name in config.called_tables()}, list(target_names(config.policy().targets))
    keys = {key: value for key, value in flat(config).items() if _decides(key, config.run_type, called)}
    return {
        **{key: value for key, value in keys.items() if not _is_later(key, value)},
        **({"models.targets": names} if names else {}),
        **({} if config.confidence_metric is None else {"confidence": config.confidence_metric}),
        **({"whole_blocks": True} if has_whole_blocks(config) else {}),
        **{f"boundary.{key}": value for key, value in config.boundary.deciding().items()},
        **_grader(config, problems),
        **_data(config, problems),
    }


def grader_name(config: Config, problems: Sequence[Problem]) -> str:
    """Return the name of the grader of a run. Without a configured one, the problems decide: see ``Graders``."""
    if (name := grader_of(config)) is not None:
        return name
    names = {
        "choice" if problem.choices else "calls" if problem.expects_calls else _USUAL_GRADER for problem in problems
    }
    return " and ".join(sorted(names)) or _USUAL_GRADER


def digest(values: Mapping[str, Any]) -> str:
    """Return the digest of an identity: 16 hexadecimal digits."""
    return hashlib.blake2b(msgspec.json.encode(values, order="sorted"), digest_size=8).hexdigest()


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any], names: tuple[str, str] = ("in the run", "now")
) -> list[str]:
    """Return one line for each key whose values differ; ``names`` label the two values.

    Operational keys do not count: logs of earlier versions have some of them.
    """
    return [
        f"{key}: {_value(one, key)} {names[0]}, {_value(other, key)} {names[1]}"
        for key in sorted({*one, *other})
        if _value(one, key) != _value(other, key)
        and not is_operational(key)
        and not _same_file(key, one.get(key), other.get(key))
    ]


def check_unchanged(path: Path, config: Config, recorded: Mapping[str, Any]) -> None:
    """Raise ``RunError`` if ``config``, read from ``path``, is not the one with which the run was recorded.

    ``recorded`` is the identity in the log of the run. Each of its keys must be there. Operational keys may differ, as
    prices do that were added later.
    """
    before = {key: value for key, value in recorded.items() if _is_of_config(key)}
    now = {key: value for key, value in identity(config, ()).items() if key in before}
    grader = grader_of(config)
    if grader is not None or recorded_grader(recorded) not in _USUAL_GRADERS:
        before[_GRADER], now[_GRADER] = recorded_grader(recorded), grader
    changed = differences(before, now, ("in the log", f"in {path.name}"))
    if changed:
        raise RunError(
            f"{path} is not the configuration of the run:\n  "
            + "\n  ".join(changed)
            + "\nRestore the values that the log has"
        )


def recorded_grader(recorded: Mapping[str, Any]) -> str:
    """Return the name of the grader in the identity of a run."""
    return recorded.get(_GRADER, _USUAL_GRADER)


def flat(config: Config) -> dict[str, Any]:
    """Return all values of a configuration by their full keys, whose parts are joined by dots."""
    found: dict[str, Any] = {}

    def walk(tree: dict[str, Any], prefix: str) -> None:
        for key, value in tree.items():
            if isinstance(value, dict):
                walk(cast("dict[str, Any]", value), f"{prefix}{key}.")
            else:
                found[f"{prefix}{key}"] = value

    walk(msgspec.to_builtins(config), "")
    return found


def is_operational(key: str) -> bool:
    """Return whether the key may change from session to session."""
    return _matches(key, OPERATIONAL)


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _is_later(key: str, value: object) -> bool:
    """Return whether logs of earlier versions lack the key, which is unset."""
    return (value in (None, (), []) and _matches(key, _LATER)) or (value == 0 and key in _LATER_ZEROS)


def _is_of_config(key: str) -> bool:
    """Return whether the recorded ``key`` is that of a configuration, not of the problems or of a sweep."""
    of_problems = key.startswith("data.") and not key.startswith(("data.judge.", "data.sandbox."))
    return key not in SHARED and not of_problems and not is_operational(key)


def _decides(key: str, run_type: str, called: set[str]) -> bool:
    if key.startswith("models."):
        return any(key.startswith(model) for model in called) and not is_operational(key)
    if key.startswith("thresholds."):
        return key == f"thresholds.{run_type}"
    if table := next((table for table in TABLES.items() if key.startswith(table[1])), None):
        return table[0] == run_type
    if key == "step_offsets":
        return run_type in STEPPED
    apart = key in ("confidence", "whole_blocks") or key.startswith(("boundary.", "data."))
    return not apart and not is_operational(key)


def _grader(config: Config, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the grader. It is left out if it is the usual one, as in logs of earlier versions."""
    name = grader_name(config, problems)
    used = {"code": ("data.sandbox.",), "judge": ("data.judge.", f"models.{config.data.judge.model}.")}.get(name, ())
    keys = {key: value for key, value in flat(config).items() if key.startswith(used) and not is_operational(key)}
    decides = {key: value for key, value in keys.items() if not _is_later(key, value)}
    return {} if name == _USUAL_GRADER else {_GRADER: name, **decides}


def _data(config: Config, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the number and the digest of the problems. The question lists the choices; only some graders read rows."""
    reads = reads_row(grader_of(config))
    read = [msgspec.structs.replace(problem, choices=(), row=problem.row if reads else {}) for problem in problems]
    name = hashlib.blake2b(msgspec.json.encode(read), digest_size=8)
    return {"data.problems": len(problems), "data.digest": name.hexdigest()}


def _same_file(key: str, one: object, other: object) -> bool:
    """Return whether the values of a key that holds a path mean the same file, which may have moved."""
    return isinstance(one, str) and isinstance(other, str) and _matches(key, _PATHS) and is_same_model(one, other)


def _value(values: Mapping[str, Any], key: str) -> str:
    return msgspec.json.encode(values[key]).decode() if key in values else "not set"
