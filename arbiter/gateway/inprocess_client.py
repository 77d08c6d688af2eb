"""The endpoint without a socket: a transport for HTTP clients, and an OpenAI client over it.

``httpx``'s own transport for ASGI gives a response when it is whole; this one gives it while it is made, and ends the
request when the client leaves it. ``httpx2``, which ``openai`` from version 3 on is built on, has the same interface.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup
from starlette.types import ASGIApp, Message, Scope

from arbiter.actors.supervision import services

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BASE = "http://arbiter"


@asynccontextmanager
async def open_client(app: ASGIApp, key: str | None = None) -> AsyncGenerator["AsyncOpenAI"]:
    """An ``openai.AsyncOpenAI`` that asks ``app`` in this process."""
    import openai

    library = _library_of(openai)
    async with (
        open_http_client(app, library) as http,
        openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key=key or "none", http_client=http) as client,
    ):
        yield client


@asynccontextmanager
async def open_http_client(app: ASGIApp, library: ModuleType) -> AsyncGenerator[Any]:
    """An ``AsyncClient`` of ``library`` (``httpx`` or ``httpx2``) that asks ``app`` in this process.

    Frameworks that take such a client can be given it, with ``http://arbiter/v1`` as the base URL.
    """
    async with services() as tasks, library.AsyncClient(transport=_transport(app, library, tasks)) as client:
        yield client


def _library_of(openai: ModuleType) -> ModuleType:
    """The HTTP library that the installed ``openai`` is built on."""
    base: Any = openai.DefaultAsyncHttpxClient
    module = next(kind.__module__.partition(".")[0] for kind in base.__mro__ if kind.__name__ == "AsyncClient")
    return __import__(module)


def _transport(app: ASGIApp, library: ModuleType, tasks: TaskGroup) -> Any:  # noqa: ANN401 - of a library named late
    class Body(library.AsyncByteStream):
        def __init__(self, exchange: _Exchange) -> None:
            self._exchange = exchange

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for part in self._exchange.parts:
                yield part

        async def aclose(self) -> None:
            self._exchange.leave()

    class Transport(library.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401
            exchange = _Exchange(await request.aread())
            tasks.start_soon(exchange.run, app, _scope(request))
            try:
                status, headers = await exchange.begun()
            except BaseException:
                exchange.leave()
                raise
            return library.Response(status, headers=headers, stream=Body(exchange))

    return Transport()


class _Exchange:
    """One request and its response."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._left = anyio.Event()
        self._started = anyio.Event()
        self._start: Message | None = None
        self._error: Exception | None = None
        self._send, self.parts = anyio.create_memory_object_stream[bytes](16)

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Have the application answer; what it raises is kept for who asks."""
        try:
            with self._send:
                await app(scope, self._receive, self._sent)
        except Exception as error:
            self._error = error
        finally:
            self._started.set()

    async def begun(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Status and headers. Raises what the application raised before it had sent them."""
        await self._started.wait()
        if self._start is None:
            raise self._error or RuntimeError("the application ended without an answer")
        return self._start["status"], list(self._start["headers"])

    def leave(self) -> None:
        """The client wants no more of it."""
        self._left.set()
        self.parts.close()

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            self._started.set()
        elif message.get("body"):
            try:
                await self._send.send(message["body"])
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise OSError("the client has gone away") from error


def _scope(request: Any) -> Scope:  # noqa: ANN401
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": None,
        "server": (request.url.host, request.url.port),
    }
