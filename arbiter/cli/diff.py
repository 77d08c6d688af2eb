"""``arbiter diff``: where two runs part ways."""

import sys
from pathlib import Path

import msgspec
from rich.markup import escape

from arbiter.cli.console import guarded, stdout
from arbiter.log.diff import FirstDifference, KeptStep, RunDiff, compare
from arbiter.log.run import Run

DIFFER = 1
_SHOWN = 20


def diff_command(run_a: Path, run_b: Path, /, *, json: bool = False, debug: bool = False) -> int:
    """Show where the transcripts of two runs of the same problems part ways, and what became of the answers.

    The exit status is 1 if they part anywhere, and 0 if all transcripts are the same.

    Examples:

        arbiter diff runs/first runs/second
        arbiter diff runs/router runs/rsd --json

    Parameters
    ----------
    run_a
        A run's folder, or a log file.
    run_b
        The other one.
    json
        Print the comparison as JSON on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        found = compare(Run.open(run_a), Run.open(run_b))
        if json:
            sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        else:
            _show(found)
        return DIFFER if found.partings else 0

    return guarded(debug, action)


def _show(found: RunDiff) -> None:
    for line in found.identity:
        _say(f"[dim]{escape(line)}[/dim]")
    _say(f"{found.same} problems have the same transcript, {len(found.partings)} part ways")
    for name, count in (("A", found.only_a), ("B", found.only_b)):
        if count:
            _say(f"{count} more are in {name} alone, or have an end there alone")
    answers = found.answers
    _say(f"answers: both right {answers.both}, A alone {answers.only_a}, B alone {answers.only_b}, none {answers.none}")
    for difference in found.partings[:_SHOWN]:
        _show_difference(difference)
    if len(found.partings) > _SHOWN:
        _say(f"\n… and {len(found.partings) - _SHOWN} more (all of them: --json)")


def _show_difference(difference: FirstDifference) -> None:
    number = f"#{difference.sample}" if difference.sample else ""
    _say(f"\n[bold]{escape(difference.problem)}{number}[/bold] parts at step {difference.step + 1}")
    _say(f"  A  {_kept(difference.a)}")
    _say(f"  B  {_kept(difference.b)}")


def _kept(kept: KeptStep | None) -> str:
    if kept is None:
        return "[dim]has ended[/dim]"
    text = " ".join(kept.text.split())
    return f"{kept.author}: {escape(text)}  [dim]{escape(kept.decision)}[/dim]"


def _say(markup: str) -> None:
    stdout.print(markup, highlight=False, soft_wrap=True)
