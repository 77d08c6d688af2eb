"""Call the endpoint without a socket: a transport for HTTP clients, and an OpenAI client that uses it.

The ASGI transport of ``httpx`` returns only complete responses. This one streams the response while it is made, and
disconnects when the client closes it. ``httpx2``, which ``openai`` uses from version 3 on, has the same interface.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup
from starlette.types import ASGIApp, Message, Scope

from arbiter.actors.supervision import services
from arbiter.backends.served.openai_library import http_library

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BASE = "http://arbiter"


@asynccontextmanager
async def open_client(app: ASGIApp, key: str | None = None) -> AsyncGenerator["AsyncOpenAI"]:
    """Open an ``openai.AsyncOpenAI`` that calls ``app`` in this process."""
    import openai

    library = http_library(openai)
    async with (
        open_http_client(app, library) as http,
        openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key=key or "none", http_client=http) as client,
    ):
        yield client


@asynccontextmanager
async def open_http_client(app: ASGIApp, library: ModuleType) -> AsyncGenerator[Any]:
    """Open an ``AsyncClient`` of ``library`` (``httpx`` or ``httpx2``) that calls ``app`` in this process.

    Pass it to frameworks that accept such a client, with ``http://arbiter/v1`` as the base URL.
    """
    async with services() as tasks, library.AsyncClient(transport=_transport(app, library, tasks)) as client:
        yield client


def _transport(app: ASGIApp, library: ModuleType, tasks: TaskGroup) -> Any:  # noqa: ANN401 - its library is known only at run time
    class Body(library.AsyncByteStream):
        def __init__(self, exchange: _Exchange) -> None:
            self._exchange = exchange

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for part in self._exchange.parts:
                yield part

        async def aclose(self) -> None:
            self._exchange.disconnect()

    class Transport(library.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401
            exchange = _Exchange(await request.aread())
            tasks.start_soon(exchange.run, app, _scope(request))
            try:
                status, headers = await exchange.begun()
            except BaseException:
                exchange.disconnect()
                raise
            return library.Response(status, headers=headers, stream=Body(exchange))

    return Transport()


class _Exchange:
    """One request and its response."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._disconnected = anyio.Event()
        self._started = anyio.Event()
        self._start: Message | None = None
        self._error: Exception | None = None
        self._send, self.parts = anyio.create_memory_object_stream[bytes](16)

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the application on the request, and keep its exception for ``begun``."""
        try:
            with self._send:
                await app(scope, self._receive, self._sent)
        except Exception as error:
            self._error = error
        finally:
            self._started.set()

    async def begun(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Wait for the status and the headers. Raises what the application raised before it sent them."""
        await self._started.wait()
        if self._start is None:
            raise self._error or RuntimeError("the application ended without an answer")
        return self._start["status"], list(self._start["headers"])

    def disconnect(self) -> None:
        """Report to the application that the client has disconnected."""
        self._disconnected.set()
        self.parts.close()

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            self._started.set()
        elif message.get("body"):
            try:
                await self._send.send(message["body"])
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise OSError("the client has disconnected") from error


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
