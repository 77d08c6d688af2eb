"""The transport for hosted endpoints, and for all else that the ``openai`` package reaches."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import openai

from arbiter.backends.served.transport import Address, excerpt, refusal, routing, silent
from arbiter.protocols.errors import BackendError

_NO_KEY = "no-key"  # the SDK insists on one; without a key no header is sent
_WITHOUT_KEY: dict[str, str | openai.Omit] = {"Authorization": openai.Omit()}


class OpenAITransport:
    """A ``Transport`` over the SDK's client, whose own retries are off; made by ``open_openai``."""

    def __init__(self, address: Address, client: openai.AsyncOpenAI) -> None:
        self.address = address
        self._client = client
        self._headers = {} if address.key else _WITHOUT_KEY

    async def post(self, path: str, body: Mapping[str, Any], problem: str) -> bytes:
        asked = path.removeprefix("/v1")
        kind, sent = openai.HttpxBinaryResponseContent, dict(body)
        options = openai.RequestOptions(headers={**self._headers, **routing(problem)})
        return await self._answer(path, lambda: self._client.post(asked, cast_to=kind, body=sent, options=options))

    async def get(self, path: str) -> bytes:
        asked = path.removeprefix("/v1")
        kind = openai.HttpxBinaryResponseContent
        options = openai.RequestOptions(headers=self._headers)
        return await self._answer(path, lambda: self._client.get(asked, cast_to=kind, options=options))

    async def _answer(self, path: str, ask: Callable[[], Awaitable[openai.HttpxBinaryResponseContent]]) -> bytes:
        try:
            with anyio.fail_after(self.address.timeout):  # the client's own time-out is for each read
                return (await ask()).content
        except openai.APIStatusError as error:
            response = error.response
            text = response.content.decode(errors="replace")
            # Without the SDK's error, whose text is the body with all that the server echoes, the key maybe.
            raise refusal(self.address, path, error.status_code, response.headers, text) from None
        except openai.APITimeoutError as error:
            connecting = self.address.connect_timeout if "Connect" in type(error.__cause__).__name__ else None
            raise silent(self.address, path, TimeoutError(), connecting) from error.__cause__
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise silent(self.address, path, cause) from cause
        except OSError as error:
            raise silent(self.address, path, error) from error
        except UnicodeEncodeError:
            raise
        except Exception as error:  # what else the SDK makes of what it meets; its text may hold the key
            told = excerpt(f"{type(error).__name__}: {error}", self.address.key)
            raise BackendError(f'{self.address.url}{path}: {told}. Does backend = "http" reach it?') from None


@asynccontextmanager
async def open_openai(address: Address) -> AsyncGenerator[OpenAITransport]:
    """A transport; its connections are closed when the block ends."""
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(  # of httpx or httpx2, whichever this SDK is on
        max_connections=address.connections, max_keepalive_connections=address.connections
    )
    timeout = openai.Timeout(address.timeout, connect=address.connect_timeout)
    async with openai.AsyncOpenAI(
        base_url=f"{address.url}/v1",
        api_key=address.key or _NO_KEY,
        timeout=timeout,
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout),
    ) as client:
        yield OpenAITransport(address, client)
