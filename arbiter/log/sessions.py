"""Opening a log to write in it: a new one, or one that earlier sessions have left."""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from arbiter.actors.supervision import services
from arbiter.log.identity import differences, digest
from arbiter.log.reader import LogFile
from arbiter.log.recorder import Recorder, Watch
from arbiter.log.resume import EarlierSessions
from arbiter.log.writer import Show, open_writer
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Detail, RunStarted
from arbiter.protocols.ids import run_started_id

SYNC = 1.0
"""Seconds between two calls of ``fsync``."""


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
) -> AsyncGenerator[Recorder]:
    """A journal that writes the log ``path``, and goes on with it where there is one already; None writes no log.

    ``identity`` is what decides the results of the run (``arbiter.log.identity``). ``sync`` is what a power cut can
    take, in seconds. ``show`` is called in the writer's thread with each event that is written, ``watch`` on the event
    loop with each that happens, whole, however little the log holds of it: it must neither block nor raise. A session
    that ``goes_on`` with problems that earlier ones left unfinished knows their answers; in another one a problem of
    the same id is another problem.

    Raises ``RunError`` if another process writes the log, if it is damaged, if it is of another run, or if it cannot
    be written; the latter also out of the block, which is cancelled then.
    """
    identity = dict(identity or {})
    with _locked(path) if path else nullcontext():
        earlier = EarlierSessions(path)
        if path:
            _check(path, earlier.started, identity)
            earlier.repair()
        async with open_writer(path, sync, show) if path else nullcontext() as writer:
            recorder = Recorder(writer, earlier, detail, watch, goes_on)
            started = RunStarted(earlier.sessions, digest(identity), identity, dict(versions or {}), detail)
            await recorder.tell(run_started_id(earlier.sessions), started)
            try:
                async with services() as tasks:
                    tasks.start_soon(recorder.guard)
                    yield recorder
            except BaseExceptionGroup as group:
                if isinstance(group.exceptions[0], RunError):
                    raise group.exceptions[0] from None
                raise


@contextmanager
def _locked(path: Path) -> Generator[None]:
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(
            f"another process is writing the run {path.parent}: wait for its end, or give another --out"
        ) from error
    except OSError as error:
        raise RunError(f"cannot write the run folder {path.parent}: {error.strerror}") from error
    with held:
        yield


def check_same(path: Path, identity: Mapping[str, Any]) -> None:
    """Raises ``RunError`` if the log ``path`` is that of another run, by its first line alone."""
    first = next(iter(LogFile(path)), None) if path.exists() else None
    if first is not None and isinstance(first.payload, RunStarted):
        _check(path, first.payload, identity)


def _check(path: Path, started: RunStarted | None, identity: Mapping[str, Any]) -> None:
    if started is None:
        return
    changed = differences(started.identity, identity)
    if changed:
        raise RunError(
            f"{path.parent} holds another run, which cannot be continued as this one:\n  "
            + "\n  ".join(changed)
            + "\nGive another folder with --out, or the run's own configuration "
            f"({path.parent / 'config.toml'})"
        )
