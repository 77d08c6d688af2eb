"""Run the draft alone, the target alone and then the configured run on the same problems, and compare them."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from arbiter.backends.opening import required_tables
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.log.reader import LOG, log_path
from arbiter.protocols.errors import RunError
from arbiter.protocols.records import Author
from arbiter.runs.baselines import ComparedRun, baseline_path, baselines_of
from arbiter.runs.folder import about_run, check_run
from arbiter.runs.results import Summary, written_tokens
from arbiter.runs.stored_config import is_own
from arbiter.runs.stored_summary import read_summary, write_summary

Solve = Callable[[Config, Path], Summary]
"""Starts or continues the run of a configuration in a folder, and returns its summary."""

Notice = Callable[[str], None]
"""Shows a line to the user."""


class Compared(NamedTuple):
    """The summary of the configured run, with its comparison unless it ended early.

    ``interrupted`` is the baseline that ended early, by a signal or for one cause. Then ``summary`` is that of the
    baseline.
    """

    summary: Summary
    interrupted: Author | None = None


def compare(
    config: Config, problems: Sequence[Problem], path: Path, solve: Solve, notice: Notice, retry_failed: bool = False
) -> Compared:
    """Run the baselines of ``config`` and then ``config`` itself in ``path``, and store the comparison.

    Of the three runs, a finished one is read from its folder, and an unfinished one is continued. With
    ``retry_failed`` a finished run that has failed problems is continued as well. The configuration is in ``path``
    from the beginning, so that all three can be resumed by that folder.

    Raises ``ConfigError`` as ``baselines_of``, ``RunError`` if one of the folders holds another run, and as ``solve``.
    """
    baselines = baselines_of(config)
    outs: dict[Author, Path] = {role: baseline_path(path, role) for role in baselines}
    runs = {**{outs[role]: baseline for role, baseline in baselines.items()}, path: config}
    for out, each in runs.items():
        required_tables(each)
        check_run(each, problems, out)

    def summary_in(out: Path) -> Summary:
        stored = _finished(out, retry_failed)
        if stored is None:
            return solve(runs[out], out)
        notice(f"the run in {out} is finished: its figures are used as they are")
        return stored

    found: dict[Author, ComparedRun] = {}
    with _resumable(path, config, runs, notice):
        for role, out in outs.items():
            baseline = summary_in(out)
            if baseline.interrupted:
                return Compared(baseline, role)
            found[role] = compared_run(baseline, out)
        summary = summary_in(path)
        if not summary.interrupted:
            summary = msgspec.structs.replace(summary, comparison=found)
            write_summary(path, summary)
    return Compared(summary)


def compared_run(summary: Summary, path: Path) -> ComparedRun:
    """Return the figures of the run in ``path`` that a comparison shows."""
    return ComparedRun(
        run=str(path),
        problems=summary.problems,
        decoded=summary.decoded,
        graded=summary.graded,
        failed=summary.failed,
        accuracy=summary.accuracy,
        accuracy_interval=summary.accuracy_interval,
        target_tokens=written_tokens(summary, "target"),
        wall_seconds=summary.wall_seconds,
        cpu_seconds=summary.cpu_seconds,
        mean_seconds=summary.latency.mean,
        cost=summary.cost and summary.cost.total,
    )


def check_resumable(path: Path) -> None:
    """Raise ``RunError`` unless ``path`` holds a run, or the configuration of a run that was about to begin."""
    try:
        log_path(path)
    except RunError as error:
        stored = path / "config.toml"
        if stored.is_file() and not (path / "sweep.json").is_file():
            if is_own(stored):
                return
            raise RunError(
                f"{path} holds no run, but a configuration that Arbiter did not write: to begin a run with it, give "
                f"{stored} and --out {path}, without --resume"
            ) from error
        raise RunError(f"{error}, or begin one there with --out {path}" if path.is_dir() else str(error)) from error


def _finished(path: Path, retry_failed: bool) -> Summary | None:
    """Return the stored summary of a run that is complete; otherwise None."""
    try:
        summary = read_summary(path, Summary)
    except RunError:
        return None  # the run is continued, which writes the summary again
    return None if summary is None or summary.interrupted or (retry_failed and summary.failed) else summary


@contextmanager
def _resumable(path: Path, config: Config, outs: Iterable[Path], notice: Notice) -> Generator[None]:
    """Keep the configuration in the folder of a new run, and say how to resume after an error or Ctrl-C.

    If no run has begun, there is nothing to resume, and the folder is removed. A configuration that was already there
    stays as it was.
    """
    is_new = not (path / LOG).exists() and not (path / "config.toml").exists()
    if is_new:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write the run folder {path}: {error.strerror}") from error
        about_run(path, config)
    try:
        yield
    except BaseException:
        if any((out / LOG).exists() for out in outs):
            notice(f"to resume: arbiter bench --resume {path}")
        elif is_new:
            with contextlib.suppress(OSError):
                for name in ("config.toml", "versions.json", "problems.jsonl"):
                    (path / name).unlink(missing_ok=True)
                path.rmdir()
        raise
