"""``arbiter grade``: grade a run again from its stored solutions."""

from pathlib import Path

import anyio

from arbiter.cli.console import guarded, progress_bar, stderr, stdout
from arbiter.cli.terminal import write_json
from arbiter.grading import Grade, Grader
from arbiter.runs.regrading import GradeChange, Regraded, regrade

_SHOWN = 20


def grade_command(run: Path, /, *, json: bool = False, debug: bool = False) -> int:
    """Grade a run again from its stored solutions, without calling a model.

    Use it for a run that an older version graded, that was killed before it had a summary, or that has ungraded
    answers because the machine was busy. The grades and the summary in the run folder are replaced at the end. An
    interruption leaves them unchanged.

    Examples:

        arbiter grade runs/first
        arbiter grade runs/first --json

    Parameters
    ----------
    run
        The run folder.
    json
        Print only the new summary and all changed grades, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """
    return guarded(debug, lambda: _grade(run, json))


def _grade(run: Path, as_json: bool) -> int:
    with progress_bar("grading") as progress:
        task = progress.add_task("", total=None)

        def graded(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        regraded = anyio.run(regrade, run, Grader(), graded)
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
    stdout.print(
        f"{len(changes)} of {summary.decoded} grades changed; "
        f"{summary.graded} graded, {summary.failed} failed, accuracy {accuracy}",
        highlight=False,
        soft_wrap=True,
    )


def _line(change: GradeChange) -> str:
    sample = f" (sample {change.sample})" if change.sample else ""
    reason = f": {change.after.reason}" if change.after.reason else ""
    return f"{change.problem}{sample}: {_verdict(change.before)} → {_verdict(change.after)}{reason}"


def _verdict(grade: Grade) -> str:
    return {True: "right", False: "wrong", None: "ungraded"}[grade.right]
