"""Operating points: parse the run type and the threshold from a model's name."""

from typing import get_args

import msgspec

from arbiter.config.run_tables import RunType
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError, RequestError

NAME = "arbiter"
_RUN_TYPES: dict[str, RunType] = {run_type: run_type for run_type in get_args(RunType)}


class OperatingPoint(msgspec.Struct, frozen=True):
    """The parts of ``arbiter``, ``arbiter:RUN_TYPE`` or ``arbiter:RUN_TYPE@THRESHOLD``.

    None stands for the configured run type or threshold.
    """

    run_type: RunType | None = None
    threshold: float | None = None


def names(arbiter: Arbiter) -> list[str]:
    """Return the model names without thresholds: the configured point, and each run type whose models are available."""
    return [NAME, *(f"{NAME}:{run_type}" for run_type in arbiter.run_types)]


def operating_point(arbiter: Arbiter, name: str) -> OperatingPoint:
    """Return the operating point of ``name``. Raises ``RequestError`` (404) if it does not exist or is unavailable."""
    base, colon, rest = name.partition(":")
    kind, at, threshold = rest.partition("@")
    if base != NAME or (colon and kind not in _RUN_TYPES):
        raise _unknown(arbiter, name, "unknown name")
    if not colon:
        return OperatingPoint()
    run_type = _RUN_TYPES[kind]
    if run_type not in arbiter.run_types:
        raise _unknown(arbiter, name, f"the models that {kind!r} needs are not available")
    if not at:
        return OperatingPoint(run_type)
    try:
        found = float(threshold)
        arbiter.config.with_run_type(run_type, "model", drop_budget=True).with_threshold(found, "model")
    except ValueError as error:
        raise _unknown(arbiter, name, f"{threshold!r} is not a valid threshold") from error
    except ConfigError as error:
        raise _unknown(arbiter, name, str(error)) from error
    return OperatingPoint(run_type, found)


def _unknown(arbiter: Arbiter, name: str, why: str) -> RequestError:
    known = ", ".join(names(arbiter))
    return RequestError(
        f"the model {name[:200]!r} does not exist: {why}. Available models: {known}. "
        "To set a threshold, add it after the run type, as in arbiter:router@0.4",
        status=404,
        code="model_not_found",
        param="model",
    )
