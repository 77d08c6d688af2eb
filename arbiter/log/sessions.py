"""Open a log for writing: a new one, or that of a run that is resumed."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from arbiter.actors.supervision import services
from arbiter.log.identity import differences, digest
from arbiter.log.lock import locked
from arbiter.log.reader import LogFile
from arbiter.log.recorder import Recorder, Watch
from arbiter.log.resume import EarlierSessions
from arbiter.log.segments import segment_lines
from arbiter.log.writer import LineWriter, Show, open_writer
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Detail, RunStarted
from arbiter.protocols.ids import run_started_id

SYNC = 1.0
"""The default time in seconds between two calls of ``fsync``."""


@asynccontextmanager
async def open_journal(
    path: Path | None,
    identity: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    detail: Detail = "full",
    sync: float = SYNC,
    show: Show | None = None,
    watch: Watch | None = None,
    goes_on: bool = True,
    prepare: Callable[[], None] | None = None,
) -> AsyncGenerator[Recorder]:
    """Open a journal that writes the log ``path``, and continues the log if it exists. None writes no log.

    ``identity`` holds the values that decide the results of the run (``arbiter.log.identity``). ``versions`` and
    ``detail`` are recorded in the log; ``detail`` sets how much of each event the log holds. ``sync`` is the time in
    seconds between two calls of ``fsync``: a power failure can lose the events of that time.

    ``show`` is called in the writer's thread with each event that is written. ``watch`` is called on the event loop
    with each event that happens, complete whatever ``detail`` is; it must neither block nor raise. With ``goes_on`` the
    session continues the unfinished problems of earlier sessions and reuses their answers. Otherwise a problem of the
    same id is a new one. ``prepare`` is called before the first line is written, once no other process can write the
    log: it writes what a run that is killed needs to be resumed.

    Raises ``RunError`` if another process writes the log, or if the log is damaged, belongs to another run, or cannot
    be written. A write that fails later cancels the block and raises ``RunError`` from it.
    """
    identity = dict(identity or {})
    with locked(path.with_name(f".{path.name}.lock"), "run") if path else nullcontext():
        segments = segment_lines(path) if path else {}  # counted first: what is written from now on is not read
        earlier = EarlierSessions(path, segments)
        if path:
            _check(path, earlier.started, identity)
            earlier.repair()
        if prepare is not None:
            prepare()
        async with open_writer(path, sync, show, crc=earlier.crc) if path else nullcontext() as writer:
            recorder = Recorder(writer, earlier, detail, watch, goes_on)
            started = RunStarted(earlier.sessions, digest(identity), identity, dict(versions or {}), detail, segments)
            await recorder.record(run_started_id(earlier.sessions), started)
            async with _served(recorder, writer):
                yield recorder


@asynccontextmanager
async def open_segment(
    opening: AbstractAsyncContextManager[LineWriter], run: str, seconds: float, detail: Detail = "full"
) -> AsyncGenerator[Recorder]:
    """Open a journal that writes a worker's segment of the log of ``run``, which ``opening`` opens, and which is empty.

    ``seconds`` is what the run's clock shows now. ``detail`` is as in ``open_journal``, and so is what is raised. The
    journal knows no problem of other workers until ``Recorder.remember`` is called.
    """
    async with opening as writer:
        recorder = Recorder(writer, EarlierSessions.of_segment(run, seconds), detail)
        async with _served(recorder, writer):
            yield recorder


@asynccontextmanager
async def _served(recorder: Recorder, writer: LineWriter | None) -> AsyncGenerator[None]:
    """Run the tasks of a journal within the block. Raises ``RunError`` when the run diverges from its log."""
    try:
        async with services() as tasks:
            tasks.start_soon(recorder.guard)
            if writer is not None:
                tasks.start_soon(recorder.write_waiting)
            yield
    except BaseExceptionGroup as group:
        if isinstance(group.exceptions[0], RunError):
            raise group.exceptions[0] from None
        raise
    finally:
        recorder.write_carried()


def check_same(path: Path, identity: Mapping[str, Any]) -> None:
    """Raise ``RunError`` if the log ``path`` belongs to another run. Only its first line is read."""
    first = next(iter(LogFile(path)), None) if path.exists() else None
    if first is not None and isinstance(first.payload, RunStarted):
        _check(path, first.payload, identity)


def _check(path: Path, started: RunStarted | None, identity: Mapping[str, Any]) -> None:
    if started is None:
        return
    changed = differences(started.identity, identity)
    if changed:
        is_earlier = "token_exact" in identity and "token_exact" not in started.identity
        raise RunError(
            f"{path.parent} holds another run, which cannot be resumed with these values:\n  "
            + "\n  ".join(changed)
            + "\nChoose another folder with --out, or use the run's own configuration "
            f"({path.parent / 'config.toml'})"
            + (". Its models read all steps as text: set token_exact = false there" if is_earlier else "")
        )
