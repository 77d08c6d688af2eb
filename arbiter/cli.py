"""The command line: ``arbiter COMMAND``. Errors are one line on standard error; the exit status says the kind."""

# importing a command adds it
# ruff: noqa: F401
# pyright: reportUnusedImport=false

import gc
import sys

import cyclopts

from arbiter.commands import (
    bench,
    collect,
    convert,
    diff,
    doctor,
    evaluate,
    export,
    grade,
    replay,
    report,
    reproduce,
    serve,
    show,
    simulate,
    solve,
    sweep,
    train,
    tune,
    up,
)
from arbiter.commands.shell import app, show_notices, tell


def collect_seldom() -> None:
    """Look for cycles of garbage seldom.

    The ring makes next to none, and with thousands of problems in flight looking for them would cost more than all else
    that it does. A library leaves that to its host; this process is our own.
    """
    gc.set_threshold(50_000, 10, 50)


def main() -> None:
    """Run the command line."""
    show_notices()
    collect_seldom()
    try:
        status = app(exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        status = tell(" ".join(str(error).split()))
    sys.exit(status)


if __name__ == "__main__":
    main()
