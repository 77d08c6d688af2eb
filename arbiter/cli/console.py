"""The parts that all commands share: the consoles, and how an error is reported."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

import arbiter
from arbiter.protocols.errors import ArbiterError

if TYPE_CHECKING:
    from rich.progress import Progress

FAILED, INTERRUPTED = 2, 130

stdout = Console(emoji=False)
stderr = Console(stderr=True, emoji=False)

_NOTICE_SECONDS = 5.0


class Notices(logging.Handler):
    """Shows on standard error why a run waits: requests that are tried again, for a server once in some seconds."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._shown: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        url, error = str(getattr(record, "url", "")), str(getattr(record, "error", ""))
        if record.created - self._shown.get(url, 0.0) >= _NOTICE_SECONDS:
            self._shown[url] = record.created
            stderr.print(f"[yellow]{record.getMessage()}:[/yellow] {escape(error)}", highlight=False, soft_wrap=True)


def version() -> str:
    """The version of the distribution, for the applications: a nested one does not inherit it."""
    return arbiter.__version__


def show_notices() -> None:
    """Show what the backends tell, above the live line if there is one."""
    backends = logging.getLogger("arbiter.backends")
    backends.setLevel(logging.INFO)
    backends.addHandler(Notices())


def progress_bar(text: str) -> "Progress":
    """A bar on standard error that is removed at the end; not drawn where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(text), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
    return Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)


def tell(error: str) -> int:
    """Write an error for people, and return the exit status that says so."""
    stderr.print(f"[red]error:[/red] {escape(error)}", highlight=False, soft_wrap=True)
    return FAILED


def guarded(debug: bool, action: Callable[[], int]) -> int:
    """Run ``action``; an error that Arbiter knows is told in a line, without a traceback unless ``debug``."""
    try:
        return action()
    except ArbiterError as error:
        if debug:
            raise
        return tell(str(error))
    except KeyboardInterrupt:
        stderr.print("interrupted", highlight=False)
        return INTERRUPTED
