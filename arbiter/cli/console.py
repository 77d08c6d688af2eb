"""What all commands share: the consoles, notices, the progress bar, and how errors are reported."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

import arbiter
from arbiter.cli.terminal import UNLIMITED, SafeConsole, write_text
from arbiter.protocols.errors import ArbiterError

if TYPE_CHECKING:
    from rich.progress import Progress

FAILED, INTERRUPTED = 2, 130

stdout = SafeConsole(emoji=False)
stderr = SafeConsole(stderr=True, emoji=False)

_NOTICE_SECONDS = 5.0
_AGAIN = "the same command begins again"

_LEVELS = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_VERBOSITY": "error", "DATASETS_VERBOSITY": "error"}
"""The variables with which libraries set the level of their own handlers, when they are imported."""


class Notices(logging.Handler):
    """Show on standard error why a run waits: requests that are retried, at most one per server in 5 seconds."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._shown: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        url, error = str(getattr(record, "url", "")), str(getattr(record, "error", ""))
        if record.created - self._shown.get(url, 0.0) >= _NOTICE_SECONDS:
            self._shown[url] = record.created
            stderr.print(f"[yellow]{record.getMessage()}:[/yellow] {escape(error)}", highlight=False, soft_wrap=True)


class Warnings(logging.Handler):
    """Show the warnings about a configuration, and about runs, on standard error, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._shown:
            self._shown.add(text)
            stderr.print(f"[yellow]warning:[/yellow] {escape(text)}", highlight=False, soft_wrap=True)


def version() -> str:
    """Return the version of the distribution. Each app needs it: a nested app does not inherit it."""
    return arbiter.__version__


def show_notices() -> None:
    """Show messages of the backends, and warnings about configurations and runs.

    They are above the live progress line if there is one.
    """
    backends = logging.getLogger("arbiter.backends")
    backends.setLevel(logging.INFO)
    backends.addHandler(Notices())
    for name in ("arbiter.config", "arbiter.runs.finding"):
        logging.getLogger(name).addHandler(Warnings())


class OwnOrErrors(logging.Filter):
    """Of the log messages that no handler shows, let those of Arbiter through, and the errors of other libraries."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or record.name.partition(".")[0] == "arbiter"


_OWN_OR_ERRORS = OwnOrErrors()


def silence_libraries() -> None:
    """Keep the warnings of other libraries off the screen: what a user must act on is an error of a command.

    ``python -W`` and ``PYTHONWARNINGS`` still decide, and so do the variables of the libraries themselves.
    """
    for variable, level in _LEVELS.items():
        os.environ.setdefault(variable, level)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_OWN_OR_ERRORS)


def progress_bar(text: str) -> "Progress":
    """Return a progress bar on standard error. It is removed at the end, and not drawn where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(text), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
    return Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)


def print_error(error: str) -> int:
    """Print an error message, and return the exit status of a failure."""
    stderr.print(f"[red]error:[/red] {escape(error)}", highlight=False, soft_wrap=True)
    return FAILED


def print_rows(lines: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output, as Markdown unless that is a terminal. The first line has the headings.

    On a terminal that is too narrow, each column after the first is a table of its own, next to the first column.
    """
    columns = len(lines[0])
    if not stdout.is_terminal:
        rows = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
        write_text("\n".join([rows[0], "|" + "---|" * columns, *rows[1:]]) + "\n")
        return
    for whole in (_drawn(lines), _drawn(lines, tight=True)):
        if stdout.measure(whole, options=stdout.options.update(width=UNLIMITED)).maximum <= stdout.width:
            stdout.print(whole)
            return
    for column in range(1, columns):
        stdout.print(_drawn([(line[0], line[column]) for line in lines]))


def _drawn(lines: Sequence[Sequence[str]], tight: bool = False) -> Table:
    """Return the table. ``tight``: with less space between the columns, and none around them."""
    heading, *others = lines
    table = Table(box=SIMPLE_HEAD, show_edge=not tight, pad_edge=not tight, padding=(0, 1, 0, 1 - tight))
    for column, name in enumerate(heading):
        table.add_column(name, justify="right" if column else "left", overflow="fold")
    for line in others:
        table.add_row(*map(escape, line))
    return table


def guarded(debug: bool, action: Callable[[], int], again: Callable[[], str] = lambda: _AGAIN) -> int:
    """Run ``action`` and return its exit status.

    An ``ArbiterError`` is printed as one line, without a traceback; with ``debug`` it is raised. ``again`` returns how
    to continue after Ctrl-C.
    """
    try:
        return action()
    except ArbiterError as error:
        if debug:
            raise
        return print_error(str(error))
    except KeyboardInterrupt:
        stderr.print(f"interrupted; {again()}", highlight=False, markup=False, soft_wrap=True)
        return INTERRUPTED
