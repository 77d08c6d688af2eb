"""``arbiter bench``: solve and grade many problems."""

from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
from cyclopts import Parameter

from arbiter.cli.bench_screen import WRITERS, details_table, print_comparison, print_figures
from arbiter.cli.console import guarded, stderr, stdout
from arbiter.cli.endings import PROBLEMS_FAILED, FailFast, Failures, continuing, failures_of, interrupted, say, stopped
from arbiter.cli.model_options import NO_MODELS, ModelOptions
from arbiter.cli.overrides import NOT_GIVEN, RunOverrides, configured
from arbiter.cli.terminal import write_json
from arbiter.cli.worker_options import IN_THIS_PROCESS, WorkerOptions
from arbiter.config.config import Config
from arbiter.config.model_tables import DraftHeadTable, InProcessTable
from arbiter.config.run_tables import WITHOUT_ESCALATION, Level
from arbiter.log.event_lines import shown
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Author
from arbiter.runs.baseline_runs import Compared, check_resumable
from arbiter.runs.baseline_runs import compare as compare_runs
from arbiter.runs.baselines import baseline_path, baselines_of
from arbiter.runs.bench import bench, configured_problems
from arbiter.runs.finding import resolve
from arbiter.runs.folder import run_path
from arbiter.runs.grading_figures import can_be_graded
from arbiter.runs.prefix_cache import lacking, uncounted
from arbiter.runs.progress import watcher_for
from arbiter.runs.reports import short_form
from arbiter.runs.results import Summary
from arbiter.runs.solvers import ProblemSolver


def bench_command(
    config: str | None = None,
    /,
    *,
    overrides: RunOverrides = NOT_GIVEN,
    models: ModelOptions = NO_MODELS,
    workers: WorkerOptions = IN_THIS_PROCESS,
    compare: Annotated[bool | None, Parameter(negative="--no-compare")] = None,
    details: bool = False,
    out: Path | None = None,
    resume: Path | None = None,
    retry_failed: bool = False,
    fail_fast: FailFast = None,
    allow_failures: bool = False,
    log_level: Level | None = None,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Solve many problems concurrently, grade the answers, and print and store the results.

    To continue a run that was interrupted or killed, use `--resume`, or repeat the command with the same `--out`.
    Finished problems are not solved again, and recorded answers are not requested again.

    The exit status is 1 if problems failed, and 130 after Ctrl-C.

    Examples:

        arbiter bench pocket
        arbiter bench pocket --compare
        arbiter bench pocket --run-type rsd --threshold 0.8
        arbiter bench pocket --samples 4 --temperature 0.7
        arbiter bench --draft ./draft --target http://localhost:30001 --data problems.jsonl
        arbiter bench mine.toml --data problems.jsonl --limit 100 --out runs/first
        arbiter bench --resume runs/first
        arbiter bench mine.toml --workers 4

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration (`pocket`). Optional with `--draft` and
        `--target`, which name the models instead, and with `--resume`: the default is then the configuration that is
        stored in the run folder.
    compare
        Run the draft alone and the target alone on the same problems first, and compare the run with both. Their run
        folders are next to that of the run, with `-draft` and `-target` appended. Of the three runs, finished ones are
        not repeated. With the run type `draft` or `target`, only the other one is added. Default: `compare` of the
        configuration (false).
    details
        Print a table of all figures instead of the main ones. `summary.json` in the run folder always has all of them.
    out
        The run folder. Default: a new folder under `runs/`. A folder that holds the same run, unfinished, is continued.
    resume
        The run folder to continue, `@last` or the beginning of its name (see `arbiter runs`). Every setting that
        decides results must be unchanged (docs/reference/log.md). Addresses, concurrency and timeouts may differ.
    retry_failed
        When continuing a run, solve its failed problems again, from their first step.
    fail_fast
        Stop early if the first 10 problems to end have all failed for one cause, for example a server that is down.
        Default: on for a new run, off with `--resume`.
    allow_failures
        Exit with status 0 although problems failed, and do not stop early unless `--fail-fast` is given.
    log_level
        Print the run's events on standard error when they are logged, up to two seconds after they happened. `warning`:
        only what goes wrong. `info`: problems as well. `debug`: every message and request. The event log in the run
        folder always has all events. Default: `log.level` of the configuration (`off`).
    json
        Print only the summary, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        resumed = None if resume is None else resolve(resume, ("run", "baseline"))
        named = configured(config, out, resumed, check_resumable, models, overrides)
        chosen = overrides.load(named, log_level)
        chosen = _compared_or_not(_audited_or_not(chosen, overrides.audit), compare)
        run = _compared if chosen.compare else _alone
        failures = failures_of(retry_failed, fail_fast, resume, allow_failures)
        screen, solver = _Screen(chosen, json, details, allow_failures), workers.solver(chosen)
        return run(chosen, out or resumed, failures, screen, solver)

    return guarded(debug, action, continuing("bench", out, resume, ("run", "baseline")))


def _audited_or_not(config: Config, audit: float | None) -> Config:
    """Return the configuration without an audit that would have nothing to score.

    Raises ``ConfigError`` if the option ``--audit`` asks for it.
    """
    if config.run_type not in WITHOUT_ESCALATION or not config.audit:
        return config
    why = f"a run of the type {config.run_type!r} escalates nothing"
    if config.run_type in ("oracle", "generate"):
        why = f"a run of the type {config.run_type!r} scores both candidates of every step anyway"
    if audit:
        raise ConfigError(f"--audit {audit:g}: {why}: leave --audit out")
    stderr.print(f"not audited, although audit is {config.audit:g}: {why}", highlight=False, soft_wrap=True)
    return msgspec.structs.replace(config, audit=0.0)


def _compared_or_not(config: Config, compare: bool | None) -> Config:
    """Return the configuration with the option ``--compare`` applied.

    A run of the type ``generate`` is compared with nothing, so there only the option is an error, and not the key.
    """
    if compare is None and config.compare and config.run_type == "generate":
        stderr.print("not compared, although compare is true: a run of the type 'generate' writes training rows")
        return msgspec.structs.replace(config, compare=False)
    return config if compare is None else msgspec.structs.replace(config, compare=compare)


class _Screen:
    """Prints the outcome of a run."""

    def __init__(self, config: Config, as_json: bool, details: bool, allow_failures: bool) -> None:
        self._config = config
        self._as_json = as_json
        self._details = details
        self._allow_failures = allow_failures

    def show(self, summary: Summary) -> None:
        """Print the summary on standard output, and its warnings on standard error."""
        if self._as_json:
            write_json(summary)
        elif self._details:
            stdout.print(details_table(summary))
        elif summary.comparison is None:
            print_figures(stdout, short_form.heading(summary), short_form.lines_of(summary, self._in_process))
        if summary.comparison is not None and not self._as_json:
            self._show_comparison(summary)
        for line in (*uncounted(summary.prefix_caches, WRITERS), *lacking(summary.prefix_caches, WRITERS)):
            say(f"warning: {line}")

    def ended(self, path: Path, summary: Summary) -> int:
        """Print how to continue the run in ``path`` if it ended early or problems failed. Return the exit status."""
        if summary.stopped is not None:
            return stopped(summary.stopped, "bench", path)
        if summary.interrupted:
            return interrupted("bench", path)
        say(f"to see its problems: arbiter show {path}")
        failed = summary.failed + sum(baseline.failed for baseline in (summary.comparison or {}).values())
        if failed:
            say(f"failed solutions: {failed}; to solve them again: arbiter bench --resume {path} --retry-failed")
        return PROBLEMS_FAILED if failed and not self._allow_failures else 0

    @property
    def hint(self) -> str:
        return "" if self._as_json or self._details else "; --details prints all figures"

    @property
    def _in_process(self) -> bool:
        tables = self._config.called_tables().values()
        return all(isinstance(table, InProcessTable | DraftHeadTable) for table in tables)

    def _show_comparison(self, summary: Summary) -> None:
        targets = tuple(self._config.models.targets)
        sentences = short_form.sentences(summary, self._in_process, targets)
        print_comparison(stdout, short_form.comparison_table(summary), sentences)


def _alone(
    config: Config, folder: Path | None, failures: Failures, screen: _Screen, solver: ProblemSolver | None
) -> int:
    with watcher_for(stderr) as watcher:
        show = shown(config.log.level, say)
        run = partial(bench, config, folder, watcher, show=show, solver=solver, **failures._asdict())
        summary, path = anyio.run(run)
    screen.show(summary)
    say(f"the run is in {path}{screen.hint}")
    _say_how_to_grade(summary, path)
    return screen.ended(path, summary)


def _compared(
    config: Config, folder: Path | None, failures: Failures, screen: _Screen, solver: ProblemSolver | None
) -> int:
    """Run the baselines and the configured run, each with its own event loop, models and worker processes."""
    path, problems = run_path(folder, config.run_type), configured_problems(config)

    def solve(each: Config, out: Path) -> Summary:
        with watcher_for(stderr) as watcher:
            show = shown(each.log.level, say)
            run = partial(bench, each, out, watcher, show=show, problems=problems, solver=solver, **failures._asdict())
            summary, _ = anyio.run(run)
        return summary

    found = compare_runs(config, problems, path, solve, say, failures.retry_failed)
    screen.show(found.summary)
    say(_where(path, list(baselines_of(config)), found) + screen.hint)
    _say_how_to_grade(found.summary, path)
    return screen.ended(path, found.summary)


def _say_how_to_grade(summary: Summary, path: Path) -> None:
    if can_be_graded(summary.ungraded):
        say(f"to grade again what the grader could not judge: arbiter grade {path}")


def _where(path: Path, baselines: list[Author], found: Compared) -> str:
    """Return the line that says where the runs are."""
    if found.interrupted:
        how = "was interrupted" if found.summary.stopped is None else "stopped early"
        return f"the {found.interrupted} alone {how}; it is in {baseline_path(path, found.interrupted)}"
    return f"the run is in {path}, compared with {' and '.join(str(baseline_path(path, role)) for role in baselines)}"
