"""``arbiter diff``: show where two runs diverge."""

from pathlib import Path

from rich.markup import escape

from arbiter.cli.console import guarded, stdout
from arbiter.cli.terminal import write_json
from arbiter.log.diff import FirstDifference, KeptStep, RunDiff, compare
from arbiter.log.run import Run
from arbiter.runs.finding import LOGGED, resolve

DIFFER = 1
_SHOWN = 20


def diff_command(run_a: Path, run_b: Path, /, *, json: bool = False, debug: bool = False) -> int:
    """Show where the transcripts of two runs of the same problems diverge, and which answers are right.

    The exit status is 1 if any transcript differs, and 0 if all are the same.

    Examples:

        arbiter diff runs/first runs/second
        arbiter diff runs/router runs/rsd --json

    Parameters
    ----------
    run_a
        The folder of the first run (A), the beginning of its name (see `arbiter runs`), or its event log.
    run_b
        The second run (B), as A. `@last` is the newest run.
    json
        Print only the comparison, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        found = compare(*(Run.open(resolve(run, LOGGED)) for run in (run_a, run_b)))
        if json:
            write_json(found)
        else:
            _show(found)
        return DIFFER if found.differences else 0

    return guarded(debug, action)


def _show(found: RunDiff) -> None:
    for line in found.identity:
        _say(f"[dim]{escape(line)}[/dim]")
    _say(f"{found.same} problems have the same transcript, {len(found.differences)} diverge")
    for name, count in (("A", found.only_a), ("B", found.only_b)):
        if count:
            _say(f"{count} more are only in {name}, or are finished only there")
    answers = found.answers
    _say(
        f"right answers: both {answers.both}, only A {answers.only_a}, only B {answers.only_b}, neither {answers.none}"
    )
    for difference in found.differences[:_SHOWN]:
        _show_difference(difference)
    if len(found.differences) > _SHOWN:
        _say(f"\n… and {len(found.differences) - _SHOWN} more (--json prints all)")


def _show_difference(difference: FirstDifference) -> None:
    number = f"#{difference.sample}" if difference.sample else ""
    _say(f"\n[bold]{escape(difference.problem)}{number}[/bold] diverges at step {difference.step + 1}")
    _say(f"  A  {_kept(difference.a)}")
    _say(f"  B  {_kept(difference.b)}")


def _kept(kept: KeptStep | None) -> str:
    if kept is None:
        return "[dim](no step: the solution has ended)[/dim]"
    text = " ".join(kept.text.split())
    return f"{kept.author}: {escape(text)}  [dim]{escape(kept.decision)}[/dim]"


def _say(markup: str) -> None:
    stdout.print(markup, highlight=False, soft_wrap=True)
