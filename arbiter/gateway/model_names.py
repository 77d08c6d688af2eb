"""Operating points: what a model's name says of run type and threshold."""

from typing import get_args

import msgspec

from arbiter.config.run_tables import RunType
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError, RequestError

NAME = "arbiter"
_RUN_TYPES: dict[str, RunType] = {run_type: run_type for run_type in get_args(RunType)}


class OperatingPoint(msgspec.Struct, frozen=True):
    """``arbiter``, ``arbiter:RUN_TYPE`` or ``arbiter:RUN_TYPE@THRESHOLD``; None is what the configuration has."""

    run_type: RunType | None = None
    threshold: float | None = None


def names(arbiter: Arbiter) -> list[str]:
    """The models' names without thresholds: the configured point, and the run types whose models are there."""
    return [NAME, *(f"{NAME}:{run_type}" for run_type in arbiter.run_types)]


def operating_point(arbiter: Arbiter, name: str) -> OperatingPoint:
    """The operating point that ``name`` names. Raises ``RequestError`` (404) if there is none, or not here."""
    base, colon, rest = name.partition(":")
    kind, at, threshold = rest.partition("@")
    if base != NAME or (colon and kind not in _RUN_TYPES):
        raise _unknown(arbiter, name, "there is no such model")
    if not colon:
        return OperatingPoint()
    run_type = _RUN_TYPES[kind]
    if run_type not in arbiter.run_types:
        raise _unknown(arbiter, name, f"the models of {kind!r} are not here")
    if not at:
        return OperatingPoint(run_type)
    try:
        found = float(threshold)
        arbiter.config.with_run_type(run_type, "model", drop_budget=True).with_threshold(found)
    except ValueError as error:
        raise _unknown(arbiter, name, f"{threshold!r} is no threshold") from error
    except ConfigError as error:
        raise _unknown(arbiter, name, str(error)) from error
    return OperatingPoint(run_type, found)


def _unknown(arbiter: Arbiter, name: str, why: str) -> RequestError:
    known = ", ".join(names(arbiter))
    return RequestError(
        f"the model {name[:200]!r} does not exist: {why}. There are {known}; a threshold stands behind the run type, "
        "as in arbiter:router@0.4",
        status=404,
        code="model_not_found",
        param="model",
    )
