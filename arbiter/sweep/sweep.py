"""A whole sweep: its points, models, runs, times and figures, in one folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import msgspec

from arbiter.backends.opening import open_tables, required_tables
from arbiter.config.config import Config
from arbiter.config.model_tables import RouterTable
from arbiter.data import Problem
from arbiter.log.checksums import as_line
from arbiter.log.history import ProblemHistory
from arbiter.log.lock import locked
from arbiter.log.reader import LOG
from arbiter.log.run import Run
from arbiter.log.writer import Show
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.runs import stored_config
from arbiter.runs.bench import Watcher, check_tools, configured_problems
from arbiter.runs.early_stop import EarlyStop
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.folder import check_run, read_results, run_path
from arbiter.runs.graders import open_graders
from arbiter.runs.model_opening import with_step_ends
from arbiter.runs.reports.gap_figures import ALONE, GapRecovery, OutcomesOfRun, gap_recovery
from arbiter.runs.reports.problem_outcomes import outcomes_of
from arbiter.runs.reports.tables import ReportRow
from arbiter.runs.results import Result, Summary, summary_of
from arbiter.runs.stored_config import check_replaceable
from arbiter.runs.stored_summary import read_summary, write_summary
from arbiter.sweep import sweep_results
from arbiter.sweep.answer_cache import annotated_models, key_of
from arbiter.sweep.log_answers import AnswerCounts, counted, counted_alone
from arbiter.sweep.points import SweepPoint, point_of
from arbiter.sweep.runner import SweepJob, run_alone, run_together
from arbiter.sweep.simulated_times import simulate
from arbiter.sweep.sweep_results import SweepResult, found_in


class SweepRequest(msgspec.Struct, frozen=True):
    """The settings of a sweep. ``measure``: run and measure each point alone; otherwise points share their answers.

    Without ``points``, the sweep continues with those in its folder. ``fail_fast`` ends it early as in ``bench``.
    """

    config: Config
    points: Sequence[SweepPoint]
    measure: bool = False
    retry_failed: bool = False
    fail_fast: bool = False


def sweep(
    request: SweepRequest, out: Path | None, watcher: Watcher, show: Show | None = None
) -> tuple[SweepResult, Path]:
    """Solve and grade the configured problems at each point. Return the figures and the sweep folder.

    Points that the folder ``out`` already has are continued as well, and their answers are reused. SIGINT and SIGTERM
    end the sweep early, as for ``bench``. Must not be called inside an event loop.

    Raises ``ConfigError``, ``DataError``, ``BackendError`` or ``RunError``, before the first problem where possible.
    """
    folder = run_path(out, "sweep")
    if (folder / LOG).exists():
        raise RunError(f"{folder} holds a single run, not a sweep: give another folder with --out")
    request = _with_earlier(request, folder)
    _check(request)
    problems = configured_problems(request.config)
    tables: dict[str, RouterTable] = {
        name: table for point in request.points for name, table in required_tables(point.config).items()
    }
    if not (folder / sweep_results.FILE).exists():
        check_replaceable(folder, request.config)
    for point in request.points:
        check_run(point.config, problems, folder / point.name, shared=not request.measure)
    with locked(folder / ".sweep.lock", "sweep"):
        watcher.loading(request.config, tables)
        early = EarlyStop(request.fail_fast)
        job = SweepJob(request.points, problems, folder, watcher, show, request.retry_failed, early)
        interrupted = anyio.run(_run, job, tables, request)
        figures = settle(job, request.measure, interrupted)
        _draw(figures, folder)
    return figures, folder


def settle(job: SweepJob, measured: bool, interrupted: bool) -> SweepResult:
    """Write the times and the summary of every point, and return the sweep's figures. Raises ``RunError``."""
    started = [point for point in job.points if (job.out / point.name / LOG).exists()]
    if not measured:
        job.watcher.notice(f"simulating the times of {len(started)} points from the times of their requests")
    summaries = {
        point.name: read_summary(job.out / point.name, Summary) if measured else _simulated(point, job, interrupted)
        for point in started
    }
    known = {name: summary for name, summary in summaries.items() if summary is not None}
    figures = found_in(job.points, _counts(started, job.out, measured), known, measured, interrupted)
    recovery = None if interrupted else _recovery(job)
    figures = msgspec.structs.replace(figures, stopped=job.early.cause, recovery=recovery)
    sweep_results.write(figures, job.out)
    return figures


def _recovery(job: SweepJob) -> GapRecovery | None:
    """Return what the points recover of the gap between both models alone, if these are among the points."""
    if not set(ALONE) <= {point.config.run_type for point in job.points}:
        return None
    return gap_recovery(
        [
            OutcomesOfRun(
                point.name,
                point.config.run_type,
                point.config.threshold,
                outcomes_of(read_results(job.out / point.name / "results.jsonl")[0]),
            )
            for point in job.points
        ]
    )


def _draw(figures: SweepResult, out: Path) -> None:
    """Write the plots of ``arbiter report``, if their packages are installed and the sweep is complete."""
    from arbiter.runs.reports.plots import draw, why_not

    entries = [ReportRow(row.point, row.summary) for row in figures.points if row.summary is not None]
    if entries and not figures.interrupted and why_not() is None:
        try:
            draw(entries, out)
        except OSError as error:
            raise RunError(f"cannot write the plots to {out}: {error.strerror}") from error


async def _run(job: SweepJob, tables: Mapping[str, RouterTable], request: SweepRequest) -> bool:
    opening = open_tables(tables, job.config.cpu_threads, separator=job.config.separator)
    async with open_graders(job.config) as graders, opening as models:
        for point in job.points:
            check_tools(point.config, job.problems, models)
        sweep_results.write(found_in(job.points, {}, {}, request.measure, interrupted=True), job.out)
        stored_config.write(job.out, request.config)
        writing = with_step_ends(models, job.config)
        return await (run_alone if request.measure else run_together)(
            msgspec.structs.replace(job, graders=graders), writing
        )


def _with_earlier(request: SweepRequest, folder: Path) -> SweepRequest:
    """Return the request with the points of an earlier session added. Raises ``RunError`` if they do not match."""
    earlier = sweep_results.earlier(folder)
    if earlier is None and not request.points:
        raise RunError(f"{folder} holds no sweep: it has no {sweep_results.FILE}")
    if earlier is None:
        return request
    if earlier.measured != request.measure:
        how = "was measured (--measure)" if earlier.measured else "shares its answers and was not measured"
        raise RunError(f"{folder} holds a sweep that {how}: give another folder with --out")
    known = [point_of(request.config, one.run_type, one.threshold) for one in earlier.points]
    points = {point.name: point for point in (*known, *request.points)}
    types = list(dict.fromkeys(point.config.run_type for point in points.values()))

    def place(point: SweepPoint) -> tuple[int, float]:
        return types.index(point.config.run_type), point.config.threshold or 0.0

    return msgspec.structs.replace(request, points=sorted(points.values(), key=place))


def _check(request: SweepRequest) -> None:
    """Raise ``ConfigError`` if the settings do not allow shared answers."""
    config = request.config
    if request.measure:
        return
    alternative = "or measure each point alone with --measure"
    if config.log.record != "full":
        raise ConfigError(
            f"log.record is {config.log.record!r}, but the points of a sweep share answers through full event logs: "
            f"set log.record to 'full', {alternative}"
        )
    if config.limits.deadline is not None:
        raise ConfigError(
            "limits.deadline is set, but a sweep with shared answers measures no times to compare with it: leave it "
            f"out, {alternative}"
        )
    if config.budget is not None:
        raise ConfigError(
            "budget is set, but it adjusts the threshold in the order of the decided steps, and a sweep with shared "
            f"answers does not keep that order: leave it out, {alternative}"
        )
    if config.block > 1:
        raise ConfigError(
            f"block is {config.block}, but a sweep with shared answers requests each step and each score alone: set "
            f"it to 1 (--block 1), {alternative}"
        )
    if config.lookahead:
        raise ConfigError(
            f"lookahead is {config.lookahead}, but with simulated times a sweep would only pay for drafts that are not "
            f"used: set it to 0 (--lookahead 0), {alternative}"
        )


def _simulated(point: SweepPoint, job: SweepJob, interrupted: bool) -> Summary:
    """Simulate the times of a point, write them into its results and summary, and return the summary."""
    folder = job.out / point.name
    simulated = simulate(_finished(folder, job.problems), point.config)
    stored, _ = read_results(folder / "results.jsonl")
    results = [
        _timed(result, simulated.each.get((result.solution.problem, result.solution.sample))) for result in stored
    ]
    whole = len(results) == len(job.problems) * point.config.sampling.samples
    summary = summary_of(point.config, results, simulated.together, interrupted and not whole)
    summary = msgspec.structs.replace(summary, simulated=True)
    replace_file(folder / "results.jsonl", b"".join(as_line(msgspec.json.encode(result)) for result in results))
    write_summary(folder, summary)
    return summary


def _finished(folder: Path, problems: Sequence[Problem]) -> list[ProblemHistory]:
    """Return the problems that ended, in the order of the data: the order in which they ended is random."""
    places = {problem.id: place for place, problem in enumerate(problems)}
    ended = {problem.key: problem for problem in Run.open(folder).problems() if problem.end is not None}
    return sorted(ended.values(), key=lambda problem: (places[problem.key[0]], problem.key[1]))


def _timed(result: Result, seconds: float | None) -> Result:
    if seconds is None:  # it was interrupted while it was solved again
        return result
    return msgspec.structs.replace(result, solution=msgspec.structs.replace(result.solution, seconds=seconds))


def _counts(points: Sequence[SweepPoint], out: Path, measured: bool) -> dict[str, AnswerCounts]:
    if measured:
        return {point.name: counted_alone(Run.open(out / point.name).problems()) for point in points}
    runs = {point.name: Run.open(out / point.name).problems() for point in points}
    annotated = annotated_models(points[0].config) if points else ()
    return counted(runs, lambda request: key_of(request, annotated))
