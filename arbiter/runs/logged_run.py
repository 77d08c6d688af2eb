"""A run as its log alone has it: the configuration that decides its results, the results, and how it ended."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from arbiter.config.config import Config, parse
from arbiter.grading import Grade
from arbiter.grading.answers import Reference
from arbiter.log.run import SHARED, Run
from arbiter.protocols.events import Graded, RunEnded, RunStarted
from arbiter.runs.results import Result

_NO_KEYS = {"confidence", "models.targets", *SHARED}
_NOT_RECORDED = {"url": "http://not-recorded"}  # operational keys that a table must have


class LoggedRun(msgspec.Struct, frozen=True):
    """What the log of a run has. ``seconds`` is the last time in it.

    ``interrupted`` is None if the last session has no end: it is still in progress, or was killed.
    """

    config: Config
    results: list[Result]
    interrupted: bool | None
    seconds: float


def logged_run(run: Run) -> LoggedRun:
    """Read a run from its log. Raises ``RunError`` or ``ConfigError`` if the log is damaged or cannot be understood."""
    interrupted, seconds = None, 0.0
    for event in run.events():
        seconds = max(seconds, event.mono)
        match event.payload:
            case RunStarted():
                interrupted = None
            case RunEnded():
                interrupted = event.payload.interrupted
            case _:
                pass
    return LoggedRun(_config(run), _results(run), interrupted, round(seconds, 6))


def _results(run: Run) -> list[Result]:
    """Return the results of the problems that ended and were graded."""
    grades = run.grades()
    found = [(grades.get(problem.key), problem.solution()) for problem in run.problems()]
    return [
        Result(solution, Grade.recorded(graded), _reference(graded), graded.grader, graded.grader_name)
        for graded, solution in found
        if graded is not None and solution is not None
    ]


def _reference(graded: Graded) -> str | Reference | None:
    reference = graded.reference
    return msgspec.convert(reference, Reference) if isinstance(reference, dict) else reference


def _config(run: Run) -> Config:
    """Return the configuration from the keys in the log. Operational keys, such as addresses, are not in it."""
    keys = run.started.identity
    tree: dict[str, Any] = {}
    for key, value in keys.items():
        if key not in _NO_KEYS and not key.startswith("data.") and value is not None:
            _put(tree, key.split("."), value)
    for table in _tables(tree.get("models", {})):
        if table.get("backend") == "http":
            table.update(_NOT_RECORDED)
    return parse(tree, f"{run.path}: the configuration in the event run_started")


def _put(tree: dict[str, Any], path: list[str], value: object) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value


def _tables(models: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tables of the models, also those of several targets."""
    targets = cast("dict[str, dict[str, Any]]", models.get("targets", {}))
    return [*(table for name, table in models.items() if name != "targets"), *targets.values()]
