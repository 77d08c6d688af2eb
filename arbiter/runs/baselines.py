"""The baselines of a run: the draft alone and the target alone, each in a run folder of its own."""

from pathlib import Path

import msgspec

from arbiter.config.config import Config
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Author, Record
from arbiter.runs.intervals import Interval

BASELINES: tuple[Author, ...] = ("draft", "target")


class ComparedRun(Record, frozen=True):
    """The figures of one of several runs over the same problems. ``run`` is its folder.

    The figures mean the same as in the run's own ``summary.json``. ``target_tokens`` are the tokens of all steps of
    the target, kept or discarded. ``mean_seconds`` is the mean time of a problem, or of one of its samples.
    ``cost`` is the total at the configured prices.
    """

    run: str
    problems: int
    decoded: int
    graded: int
    failed: int
    accuracy: float | None
    accuracy_interval: Interval | None
    target_tokens: int
    wall_seconds: float | None
    cpu_seconds: float | None
    mean_seconds: float | None
    cost: float | None


def baselines_of(config: Config) -> dict[Author, Config]:
    """Return the configurations of the baselines that ``config`` is compared with.

    A run of the type ``draft`` or ``target`` has only the other one. The target alone is the first of several targets.
    Raises ``ConfigError`` for a run of the type ``generate``, or if the model of a baseline is missing.
    """
    if config.run_type == "generate":
        raise ConfigError(
            "compare: a run of the type 'generate' writes training rows with both models at every step, so there is "
            "nothing to compare: leave compare out (--no-compare)"
        )
    return {role: _alone(config, role) for role in BASELINES if role != config.run_type}


def baseline_path(path: Path, role: Author) -> Path:
    """Return the folder of a baseline of the run in ``path``: next to it, with ``-draft`` or ``-target`` appended."""
    named = path if path.name not in ("", "..") else path.resolve()
    return Path(f"{named}-{role}")


def _alone(config: Config, role: Author) -> Config:
    baseline = config.with_run_type(role, "compare", drop_budget=True)
    baseline = msgspec.structs.replace(baseline, compare=False, audit=0.0)
    if any(table is None for table in baseline.called_tables().values()):
        raise ConfigError(
            f"compare: the {role} alone needs a {role} model, but none is configured: add a table [models.{role}], or "
            "leave compare out (--no-compare)"
        )
    return baseline
