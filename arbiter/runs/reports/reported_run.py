"""A run as a report reads it from its folder."""

from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from arbiter.config.config import Config, load_config
from arbiter.log.identity import check_unchanged
from arbiter.log.reader import has_log
from arbiter.log.run import Run as Recorded
from arbiter.protocols.errors import RunError
from arbiter.runs.folder import check_count, read_results
from arbiter.runs.logged_run import logged_run
from arbiter.runs.reports.problem_outcomes import ProblemOutcome, outcomes_of
from arbiter.runs.results import Result, Summary, summary_of
from arbiter.runs.stored_summary import StoredSummary, read_summary

State = Literal["finished", "interrupted", "unfinished"]


class ReportedRun(msgspec.Struct, frozen=True):
    """A run as its folder holds it. The figures are computed from the stored results, also if the run did not end.

    An ``interrupted`` run ended early, by a signal or for one cause (``stopped``). An ``unfinished`` run has no
    summary: it is still in progress, or was killed.
    """

    name: str
    state: State
    config: Config
    summary: Summary
    questions: frozenset[Hashable]
    outcomes: Sequence[ProblemOutcome]
    torn: bool = False


def read_run(folder: Path) -> ReportedRun:
    """Read the run in ``folder``. Raises ``RunError`` or ``ConfigError`` naming the file and how to fix it."""
    if not folder.is_dir():
        raise RunError(f"there is no run folder {str(folder)!r}: arbiter runs lists the runs")
    if has_log(folder) and not (folder / "results.jsonl").exists():
        return _read_log(folder)
    for name in ("config.toml", "results.jsonl"):
        if not (folder / name).is_file():
            raise RunError(f"{folder} is not a run folder: it has no {name}; name a folder that `arbiter bench` wrote")
    config, ending = load_config(str(folder / "config.toml")), read_summary(folder, StoredSummary)
    results, torn = read_results(folder / "results.jsonl")
    check_count(folder, len(results), ending and ending.decoded)
    recorded = _recorded(folder)
    if recorded is not None:
        check_unchanged(folder / "config.toml", config, recorded.started.identity)
    state: State = "unfinished" if ending is None else "interrupted" if ending.interrupted else "finished"
    known = StoredSummary(simulated=recorded is not None and recorded.is_shared) if ending is None else ending
    return ReportedRun(
        name=str(folder),
        state=state,
        config=config,
        summary=known.added_to(summary_of(config, results, wall_seconds=None)),
        questions=_questions(results),
        outcomes=outcomes_of(results),
        torn=torn,
    )


def _read_log(folder: Path) -> ReportedRun:
    """Return the run of a folder that has the log without the results, which are computed from it."""
    recorded = Recorded.open(folder)
    logged = logged_run(recorded)
    state: State = "unfinished" if logged.interrupted is None else "interrupted" if logged.interrupted else "finished"
    path = folder / "config.toml"
    config = load_config(str(path)) if path.is_file() else logged.config
    check_unchanged(path, config, recorded.started.identity)
    seconds = None if state == "unfinished" else logged.seconds
    summary = summary_of(config, logged.results, seconds, state == "interrupted")
    return ReportedRun(
        name=str(folder),
        state=state,
        config=config,
        summary=msgspec.structs.replace(summary, simulated=recorded.is_shared),
        questions=_questions(logged.results),
        outcomes=outcomes_of(logged.results),
        torn=recorded.torn > 0,
    )


def _questions(results: Iterable[Result]) -> frozenset[Hashable]:
    return frozenset((result.solution.question, str(result.reference)) for result in results)


def _recorded(folder: Path) -> Recorded | None:
    """Return the run in the log of ``folder``; None if it has no readable log, which a report does not need."""
    with suppress(RunError):
        return Recorded.open(folder)
    return None
