"""The transport for hosted endpoints and all others that the ``openai`` package can reach."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import openai

from arbiter.backends.served.http_bodies import PACKING, TooLargeError, connection_fields, too_large, unpacked_answer
from arbiter.backends.served.openai_library import http_library
from arbiter.backends.served.refusals import excerpt, silent
from arbiter.backends.served.transport import Address, Hear, routing
from arbiter.protocols.errors import BackendError

_NO_KEY = "no-key"  # the SDK requires a key; without a real one, no header is sent
_ENCODING = "x-arbiter-encoding"  # the name under which the client does not unpack a body
_HTTPX: Any = http_library(openai)
_HEAR: ContextVar[Hear | None] = ContextVar("hear", default=None)  # the SDK has no place for it in a request
_WITHOUT_KEY: dict[str, str | openai.Omit] = {"Authorization": openai.Omit()}


class OpenAITransport:
    """A ``Transport`` over the SDK's client, with its retries off. ``open_openai`` makes it."""

    def __init__(self, address: Address, client: openai.AsyncOpenAI) -> None:
        self.address = address
        self._client = client
        self._headers = {} if address.key else _WITHOUT_KEY

    async def post(self, path: str, body: Mapping[str, Any], problem: str, hear: Hear | None = None) -> bytes:
        endpoint = path.removeprefix("/v1") if path.startswith("/v1/") else self.address.at(path)
        kind, sent = openai.HttpxBinaryResponseContent, dict(body)
        options = openai.RequestOptions(headers={**self._headers, **routing(problem), **connection_fields(body)})
        before = _HEAR.set(hear)
        try:
            return await self._answer(
                path, lambda: self._client.post(endpoint, cast_to=kind, body=sent, options=options)
            )
        finally:
            _HEAR.reset(before)

    async def get(self, path: str) -> bytes:
        endpoint = path.removeprefix("/v1")
        kind = openai.HttpxBinaryResponseContent
        options = openai.RequestOptions(headers=self._headers)
        return await self._answer(path, lambda: self._client.get(endpoint, cast_to=kind, options=options))

    async def _answer(self, path: str, ask: Callable[[], Awaitable[openai.HttpxBinaryResponseContent]]) -> bytes:
        try:
            with anyio.fail_after(self.address.timeout):  # the client's own time-out applies to each read
                response: Any = (await ask()).response
        except openai.APIStatusError as error:
            # handled below, without this error as its cause: its text is the body, which may contain the key
            response = error.response
        except openai.APITimeoutError as error:
            connecting = self.address.connect_timeout if "Connect" in type(error.__cause__).__name__ else None
            raise silent(self.address, path, TimeoutError(), connecting) from error.__cause__
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            if isinstance(cause, TooLargeError):
                raise too_large(self.address, path) from None
            raise silent(self.address, path, cause) from cause
        except OSError as error:
            raise silent(self.address, path, error) from error
        except TooLargeError:
            raise too_large(self.address, path) from None
        except UnicodeEncodeError:
            raise
        except Exception as error:  # the SDK may raise anything else; the text may contain the key
            reason = excerpt(f"{type(error).__name__}: {error}", self.address.key)
            raise BackendError(f'{self.address.at(path)}: {reason}. Does backend = "http" work?') from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        headers["content-encoding"] = headers.get(_ENCODING, "identity")
        return unpacked_answer(self.address, path, response.status_code, headers, response.content)


class _Bounded(_HTTPX.AsyncByteStream):
    """The body of an answer, still packed. Raises ``TooLargeError`` once it is larger than ``largest`` bytes.

    ``hear`` takes its parts as they arrive.
    """

    def __init__(self, body: Any, largest: int, hear: Hear | None) -> None:  # noqa: ANN401 - of httpx or httpx2
        self._body = body
        self._largest = largest
        self._hear = hear

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._body:
            size += len(part)
            if size > self._largest:
                raise TooLargeError
            if self._hear is not None:
                self._hear(part)
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()


@asynccontextmanager
async def open_openai(address: Address) -> AsyncGenerator[OpenAITransport]:
    """Yield a transport. Its connections are closed when the block ends."""
    limits = _HTTPX.Limits(max_connections=address.connections, max_keepalive_connections=address.connections)
    timeout = openai.Timeout(address.timeout, connect=address.connect_timeout)

    async def bounded(response: Any) -> None:  # noqa: ANN401 - of httpx or httpx2
        """Keep the body packed, so that it is unpacked within the limit."""
        if encoding := response.headers.pop("content-encoding", None):
            response.headers[_ENCODING] = encoding
        is_heard = response.status_code == 200 and not encoding
        response.stream = _Bounded(response.stream, address.largest_body, _HEAR.get() if is_heard else None)

    async with openai.AsyncOpenAI(
        base_url=address.at("/v1/").rstrip("/"),
        default_headers={"accept-encoding": PACKING},
        api_key=address.key or _NO_KEY,
        timeout=timeout,
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout, event_hooks={"response": [bounded]}),
    ) as client:
        yield OpenAITransport(address, client)
