"""The command line, called in this process, so that a test pays for no imports of its own.

Tests that are about the process itself (signals, kills, what is imported, the installed script) start one.
"""

import contextlib
import io
import logging
import os
import traceback
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from arbiter.cli import application

Command = Callable[[Sequence[str]], int | None]


def call_arbiter(*arguments: str | Path, folder: Path | None = None, columns: int = 200) -> CompletedProcess[str]:
    """Run ``arbiter ARGUMENTS`` in ``folder``, as if in a terminal that is ``columns`` wide."""
    with _restored_notices():
        return call(application.run, *map(str, arguments), folder=folder, columns=columns)


def call(command: Command, *arguments: str, folder: Path | None = None, columns: int = 200) -> CompletedProcess[str]:
    """Run ``command``, which gets the arguments and returns its exit status or exits with it."""
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    environment = patch.dict(os.environ, {"COLUMNS": str(columns), "NO_COLOR": "1"})
    where = contextlib.chdir(folder or Path.cwd())
    with environment, where, contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            status = command(arguments) or 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except Exception:  # as the interpreter does at the end of a process
            traceback.print_exc()
            status = 1
    return CompletedProcess(arguments, status, *(_text(stream) for stream in (stdout, stderr)))


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


@contextlib.contextmanager
def _restored_notices() -> Generator[None]:
    """Remove the handlers that show notices of backends and configurations: each call adds its own."""
    loggers = [logging.getLogger(f"arbiter.{name}") for name in ("backends", "config")]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    try:
        yield
    finally:
        for logger, (handlers, level) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.setLevel(level)
