"""The parts that all commands share: the application, its consoles, and how an error is told."""

import logging
from collections.abc import Callable
from importlib.metadata import version

import cyclopts
from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from protocols.errors import ArbiterError

FAILED, INTERRUPTED = 2, 130

app = cyclopts.App(
    name="arbiter",
    help_format="markdown",
    version=version("arbiter-reasoning"),
    default_parameter=Parameter(negative=()),
    help="Step-level speculative reasoning: a small model drafts, the big one is called only where it helps.",
)
# its keyword arguments have no types
app.register_install_completion_command(  # pyright: ignore[reportUnknownMemberType]
    help="Install the completion of commands and options for your shell."
)
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


def show_notices() -> None:
    """Show what the backends tell, above the live line if there is one."""
    backends = logging.getLogger("arbiter.backends")
    backends.setLevel(logging.INFO)
    backends.addHandler(Notices())


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
