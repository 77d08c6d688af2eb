"""The points of a sweep: one run for each run type and threshold."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import get_args

import msgspec

from arbiter.config.config import Config
from arbiter.config.run_tables import RunType, Thresholds
from arbiter.protocols.errors import ConfigError

MOST = 200
"""The largest number of points in a sweep. Each has an event log, and a thread that writes it."""

_RUN_TYPES: tuple[RunType, ...] = get_args(RunType)
_HOW = "write START:END:STEP, as in 0:1:0.1, or a list, as in 0.2,0.5"
_HOW_FOR_ONE = f"{_HOW}; for one run type write TYPE=…, as in oracle=-0.5:0.5:0.1"


class SweepPoint(msgspec.Struct, frozen=True):
    """One run of the sweep. ``name`` is the name of its folder."""

    name: str
    config: Config


def run_types_of(text: str) -> list[RunType]:
    """Return the run types in a comma-separated list. Raises ``ConfigError`` naming one that does not exist."""
    known: dict[str, RunType] = {run_type: run_type for run_type in _RUN_TYPES}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(f"--run-types {text}: there is no run type {name!r}; use {', '.join(known)}")
    return list(dict.fromkeys(known[name] for name in names))


def plan(config: Config, run_types: Sequence[RunType], thresholds: Sequence[str]) -> list[SweepPoint]:
    """Return a point for each run type and threshold. A run type without a threshold is one point.

    ``thresholds`` are written as on the command line. Without any, a run type has its configured one. Raises
    ``ConfigError`` if one cannot be read, is out of range for its run type, or applies to none of the run types.
    """
    given = _given(thresholds)
    unused = [name for name in given if name is not None and name not in run_types]
    if unused or (None in given and not any(run_type in Thresholds.__struct_fields__ for run_type in run_types)):
        raise ConfigError(
            f"--thresholds: none of the run types ({', '.join(run_types)}) uses the given thresholds"
            + (f" of {', '.join(map(str, unused))}" if unused else "")
            + f": add run types to --run-types; those with a threshold are {', '.join(Thresholds.__struct_fields__)}"
        )
    points: dict[str, SweepPoint] = {}
    for run_type in run_types:
        for threshold in _thresholds(config, run_type, given):
            point = point_of(config, run_type, threshold)
            points[point.name] = point
    if len(points) > MOST:
        raise ConfigError(
            f"--thresholds: these are {len(points)} points, at most {MOST} are possible; use a larger STEP"
        )
    return list(points.values())


def point_of(config: Config, run_type: RunType, threshold: float | None) -> SweepPoint:
    """Return one point. Raises ``ConfigError`` if its threshold is out of range for its run type."""
    if threshold is None:
        return SweepPoint(run_type, config.with_run_type(run_type, "--run-types"))
    number = f"{Decimal(repr(threshold + 0.0)).normalize():f}"  # + 0.0 turns -0 into 0
    chosen = config.with_run_type(run_type, "--thresholds").with_threshold(threshold, "--thresholds")
    return SweepPoint(f"{run_type}-{number}", chosen)


def _thresholds(
    config: Config, run_type: RunType, given: Mapping[str | None, Sequence[float]]
) -> Sequence[float] | tuple[None]:
    if run_type not in Thresholds.__struct_fields__:
        return (None,)
    configured: float = getattr(config.thresholds, run_type)
    return given.get(run_type) or given.get(None) or (configured,)


def _given(options: Iterable[str]) -> dict[str | None, list[float]]:
    """Return the sorted thresholds by run type; those for all others have the key None."""
    found: dict[str | None, list[float]] = {}
    for option in options:
        name, equals, values = option.rpartition("=")
        if equals and name not in Thresholds.__struct_fields__:
            raise ConfigError(f"--thresholds {option}: {name!r} is not a run type with a threshold; {_HOW_FOR_ONE}")
        found.setdefault(name or None, []).extend(values_of(f"--thresholds {option}", values))
    return {name: sorted(set(values)) for name, values in found.items()}


def values_of(option: str, text: str) -> list[float]:
    """Return the numbers of ``START:END:STEP``, or of a comma-separated list. ``option`` is named in errors.

    At most ``MOST`` + 1 numbers are returned. Raises ``ConfigError`` if ``text`` cannot be read.
    """
    parts = text.split(":")
    try:
        if len(parts) == 1:
            values = [Decimal(part) for part in text.split(",")]
        else:
            start, end, step = map(Decimal, parts)
            if step <= 0 or end < start:
                raise ConfigError(f"{option}: END must not be below START, and STEP must be above 0")
            count = int((end - start) / step) + 1
            values = [start + number * step for number in range(min(count, MOST + 1))]
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ConfigError(f"{option}: {_HOW}") from error
    if not all(value.is_finite() for value in values):
        raise ConfigError(f"{option}: {_HOW}")
    return [float(value) for value in values]
