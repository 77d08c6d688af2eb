"""The parts that all commands share: the application, its consoles, and how an error is told."""

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
stdout = Console(emoji=False)
stderr = Console(stderr=True, emoji=False)


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
