"""Sessions of sglang's prefix cache: one for each problem, so that what was read for it stays there until it ends.

An sglang with ``--enable-session-radix-cache`` first evicts what belongs to no session. A session begins with the first
request that names it, and would stay open for ever: sglang forgets it only at ``/close_session``. So each is closed:

- when its problem has ended, failed or was cancelled (``release``);
- when the model is closed, at the latest;
- at the next start, if the process was killed (``session_ledger``).

A closed session's name is used again. So at most as many names are in use as there were problems at the same time.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from arbiter.backends.served.refusals import decoded
from arbiter.backends.served.session_ledger import SessionLedger, left_over, sessions_folder
from arbiter.backends.served.transport import Hear, Transport, persistent
from arbiter.config.model_tables import HostedTable, ServedTable
from arbiter.protocols.errors import BackendError

log = logging.getLogger("arbiter.backends")

_PATHS = frozenset({"/v1/completions", "/v1/chat/completions", "/generate"})
_CLOSE, _SERVER_INFO = "/close_session", "/server_info"
_LATE = 0.5  # seconds in which the server has seen a request that was given up, which would open its session again
_SECONDS, _CONNECTIONS = 5.0, 4
_AT_THE_END = 10.0  # seconds in which all sessions are closed when the model is


class _Arguments(msgspec.Struct, frozen=True):
    enable_session_radix_cache: bool


_DECODER = msgspec.json.Decoder(_Arguments)


class _Session:
    """A session: its name, its running requests, and whether one of them was given up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gave_up = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def request(self) -> Generator[None]:
        self._running += 1
        self._idle.clear()
        try:
            yield
        except BaseException:
            self.gave_up = True
            raise
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def until_idle(self) -> None:
        await self._idle.wait()
        if self.gave_up:
            await anyio.sleep(_LATE)


class SessionTransport:
    """A ``Transport`` over ``inner`` whose requests for steps name the session of their problem.

    ``control`` closes sessions: a transport of its own, since those of ``inner`` may all be busy. ``names`` gives the
    sessions their names.
    """

    def __init__(self, inner: Transport, control: Transport, names: SessionLedger) -> None:
        self.address = inner.address
        self._inner = inner
        self._control = control
        self._names = names
        self._held: dict[str, _Session] = {}
        self._free: list[str] = []
        self._count = 0
        self._closing: set[asyncio.Task[bool]] = set()
        self._unclosed: set[str] = set()

    async def post(self, path: str, body: Mapping[str, Any], problem: str, hear: Hear | None = None) -> bytes:
        if not problem or path not in _PATHS:
            return await self._inner.post(path, body, problem, hear)
        session = self._held.get(problem) or self._open(problem)
        if session is None:
            return await self._inner.post(path, body, problem, hear)
        with session.request():
            return await self._inner.post(path, {**body, "session_id": session.name}, problem, hear)

    async def get(self, path: str) -> bytes:
        return await self._inner.get(path)

    def release(self, problem: str) -> None:
        """Close the session of a problem as soon as its requests have ended. A later request opens another one."""
        session = self._held.pop(problem, None)
        if session is not None:
            task = asyncio.get_running_loop().create_task(self._close(session))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> bool:
        """Close all sessions. Return whether all are closed."""
        for problem in tuple(self._held):
            self.release(problem)
        with anyio.move_on_after(_AT_THE_END, shield=True):
            while self._closing:
                await asyncio.wait(self._closing)
            for name in tuple(self._unclosed):
                await self._closed(name)
        return not (self._closing or self._unclosed)

    def _open(self, problem: str) -> _Session | None:
        """Return a new session for a problem; None if its name cannot be written down."""
        if self._free:
            name = self._free.pop()
        else:
            try:
                name = self._names.name(self._count)
            except OSError as error:
                log.warning("a problem has no session at %s, since no name can be written: %s", self.address.url, error)
                return None
            self._count += 1
        session = self._held[problem] = _Session(name)
        return session

    async def _close(self, session: _Session) -> bool:
        await session.until_idle()
        return await self._closed(session.name)

    async def _closed(self, name: str) -> bool:
        """Close a session. One that cannot be closed now is tried again at the end."""
        try:
            await close_session(self._control, name)
        except BackendError as error:
            self._unclosed.add(name)
            log.warning("the session %s stays open at %s: %s", name, self.address.url, error)
            return False
        self._unclosed.discard(name)
        self._free.append(name)
        return True


def release_at(transport: Transport, problem: str) -> None:
    """Close the session of a problem, if ``transport`` uses sessions."""
    if isinstance(transport, SessionTransport):
        transport.release(problem)


async def close_session(control: Transport, name: str) -> None:
    """Close a session; one that is not open may be closed too. Raises ``BackendError`` if the server does not."""
    await persistent(control.address, lambda: control.post(_CLOSE, {"session_id": name}, ""))


def control_table(table: ServedTable) -> ServedTable:
    """Return the table for short requests about sessions."""
    timeout, retries = min(table.timeout, _SECONDS), min(table.retries, 1)
    return msgspec.structs.replace(table, timeout=timeout, retries=retries, in_flight=_CONNECTIONS)


@asynccontextmanager
async def with_sessions(
    table: ServedTable, inner: Transport, control: Transport, folder: Path | None = None
) -> AsyncGenerator[Transport]:
    """Yield ``inner`` with a session for each problem, where the server of ``table`` keeps sessions; else ``inner``.

    All sessions are closed when the block ends. Before it begins, those are closed that killed processes of this
    machine left open at the server. ``folder`` has the files about sessions; None for ``sessions_folder``.
    """
    names = await _names(table, control, folder)
    if names is None:
        yield inner
        return
    transport = SessionTransport(inner, control, names)
    all_closed = False
    try:
        yield transport
    finally:
        try:
            all_closed = await transport.close()
        finally:
            names.close(remove=all_closed)


async def _names(table: ServedTable, control: Transport, folder: Path | None) -> SessionLedger | None:
    """Return the names for sessions; None if the server keeps none, or if their names cannot be written down."""
    if isinstance(table, HostedTable) or table.named_engine not in (None, "sglang"):
        return None
    if not await _keeps_sessions(control):
        return None
    url = control.address.url
    try:
        place = folder or sessions_folder()
        await _close_left_over(control, place)
        return SessionLedger(place, url)
    except (OSError, RuntimeError) as error:
        log.warning("%s keeps sessions, but none is used, since their names cannot be written: %s", url, error)
    except BackendError as error:  # a router in front of servers answers for one of them, and closes no sessions
        log.warning("%s keeps sessions, but none is used, since it closes none: %s", url, error)
    return None


async def _keeps_sessions(control: Transport) -> bool:
    try:
        arguments: _Arguments = decoded(await control.get(_SERVER_INFO), _DECODER)
    except (BackendError, msgspec.DecodeError):
        return False
    return arguments.enable_session_radix_cache


async def _close_left_over(control: Transport, folder: Path) -> None:
    """Close what killed processes left open. Raises ``BackendError`` if the server closes no sessions."""
    await close_session(control, "arbiter")
    for path, names in await anyio.to_thread.run_sync(lambda: list(left_over(folder, control.address.url))):
        for name in names:
            await close_session(control, name)
        path.unlink(missing_ok=True)
        log.info("closed the sessions of a run that was killed", extra={"url": control.address.url})
