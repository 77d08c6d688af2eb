"""``arbiter grade``: grade a run again from its stored solutions."""

from pathlib import Path

import anyio

from arbiter.cli.console import guarded, progress_bar, stderr, stdout
from arbiter.cli.terminal import write_json
from arbiter.grading import Grade
from arbiter.runs.finding import GRADED, resolve
from arbiter.runs.regrading import GradeChange, Regraded, regrade
from arbiter.runs.reports.short_form import not_graded

_SHOWN = 20
_UNCHANGED = "the grades in the run folder are unchanged; the same command begins again"


def grade_command(run: Path, /, *, json: bool = False, debug: bool = False) -> int:
    """Grade a run again from its stored solutions, with the grader of the run.

    Use it for a run that an older version graded, that was killed before it had a summary, or that has ungraded
    answers. No model is called, unless the grader is `judge`. Each changed verdict is printed with the reason before
    and after. The grades and the summary in the run folder are replaced at the end. An interruption leaves them
    unchanged.

    Examples:

        arbiter grade runs/first
        arbiter grade runs/first --json

    Parameters
    ----------
    run
        The run folder, `@last` or the beginning of its name (see `arbiter runs`).
    json
        Print only the new summary and all changed verdicts, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """
    return guarded(debug, lambda: _grade(resolve(run, GRADED), json), lambda: _UNCHANGED)


def _grade(run: Path, as_json: bool) -> int:
    with progress_bar("grading") as progress:
        task = progress.add_task("", total=None)

        def graded(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        regraded = anyio.run(regrade, run, graded)
    if regraded.torn:
        stderr.print("the last line of results.jsonl was half written and is left out", highlight=False)
    if as_json:
        write_json(regraded)
    else:
        _show(regraded)
    return 0


def _show(regraded: Regraded) -> None:
    summary, changes = regraded.summary, regraded.changes
    for change in changes[:_SHOWN]:
        stdout.print(_line(change), highlight=False, soft_wrap=True, markup=False)
    if len(changes) > _SHOWN:
        stdout.print(f"… and {len(changes) - _SHOWN} more (--json prints all)", highlight=False)
    accuracy = "–" if summary.accuracy is None else f"{summary.accuracy:.1%}"
    lines = [
        f"{len(changes)} of {summary.decoded} verdicts changed; "
        f"{summary.graded} graded, {summary.failed} failed, accuracy {accuracy} ({summary.grader})",
        *([f"not in accuracy: {not_graded(summary)}"] if summary.ungraded else []),
    ]
    for line in lines:
        stdout.print(line, highlight=False, soft_wrap=True, markup=False)


def _line(change: GradeChange) -> str:
    sample = f" (sample {change.sample})" if change.sample else ""
    return f"{change.problem}{sample}: {_verdict(change.before)} → {_verdict(change.after)}"


def _verdict(grade: Grade) -> str:
    """Return the verdict with its reason; a right answer has none."""
    verdict = {True: "right", False: "wrong", None: "ungraded"}[grade.right]
    return f"{verdict} ({grade.reason})" if grade.reason else verdict
