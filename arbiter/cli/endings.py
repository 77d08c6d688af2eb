"""How the commands that solve many problems end: what they say, and their exit status."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from arbiter.cli.console import INTERRUPTED, stderr
from arbiter.log.reader import LOG
from arbiter.protocols.errors import RunError
from arbiter.runs.early_stop import FIRST
from arbiter.runs.finding import Kind, resolve

PROBLEMS_FAILED = 1

FailFast = Annotated[bool | None, Parameter(negative="--no-fail-fast")]
"""The option ``--fail-fast``. If it is not given, it is on for a new run and off for one that is resumed."""


class Failures(NamedTuple):
    """How failed problems are treated.

    ``retry_failed``: those of earlier sessions are solved again. ``fail_fast``: the run stops early if the first
    problems to end have all failed for one cause.
    """

    retry_failed: bool
    fail_fast: bool


def failures_of(
    retry_failed: bool, fail_fast: bool | None, resume: Path | None, allow_failures: bool = False
) -> Failures:
    """Return how the options of a command treat failures. ``fail_fast`` is None if the option is not given."""
    default = resume is None and not allow_failures
    return Failures(retry_failed, default if fail_fast is None else fail_fast)


def stopped(cause: str, command: str, folder: Path) -> int:
    """Say why a run stopped early and how to continue it in ``folder``. Return the exit status."""
    say(f"stopped early: the first {FIRST} problems to end have all failed for one cause: {cause}")
    say(f"remove the cause (arbiter doctor {folder / 'config.toml'} examines models behind servers), then continue:")
    say(f"  arbiter {command} --resume {folder} --retry-failed")
    say("without --retry-failed, failed problems are not solved again")
    return PROBLEMS_FAILED


def interrupted(command: str, folder: Path) -> int:
    """Say how to continue an interrupted run in ``folder``. Return the exit status."""
    say(f"to resume: arbiter {command} --resume {folder}")
    return INTERRUPTED


def continuing(command: str, out: Path | None, resume: Path | None, kinds: tuple[Kind, ...]) -> Callable[[], str]:
    """Return a function that says how to continue ``command`` after Ctrl-C.

    ``out`` and ``resume`` are its options; ``resume`` may name a folder of ``kinds`` as ``resolve`` does.
    """

    def line() -> str:
        folder = out
        if resume is not None:
            with suppress(RunError):
                folder = resolve(resume, kinds)
        if folder is not None and any((folder / name).exists() for name in (LOG, "sweep.json")):
            return f"to resume: arbiter {command} --resume {folder}"
        if folder is not None:
            return "nothing had begun: repeat the command to start again"
        return f"if it had begun, arbiter runs lists its folder, and arbiter {command} --resume FOLDER continues it"

    return line


def say(line: str) -> None:
    """Print a line on standard error without markup."""
    stderr.print(line, highlight=False, markup=False, soft_wrap=True)
