"""The transport for hosted endpoints and all others that the ``openai`` package can reach."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import openai

from arbiter.backends.served.transport import Address, excerpt, refusal, routing, silent
from arbiter.protocols.errors import BackendError

_NO_KEY = "no-key"  # the SDK requires a key; without a real one, no header is sent
_WITHOUT_KEY: dict[str, str | openai.Omit] = {"Authorization": openai.Omit()}


class OpenAITransport:
    """A ``Transport`` over the SDK's client, with its retries off. ``open_openai`` makes it."""

    def __init__(self, address: Address, client: openai.AsyncOpenAI) -> None:
        self.address = address
        self._client = client
        self._headers = {} if address.key else _WITHOUT_KEY

    async def post(self, path: str, body: Mapping[str, Any], problem: str) -> bytes:
        endpoint = path.removeprefix("/v1")
        kind, sent = openai.HttpxBinaryResponseContent, dict(body)
        options = openai.RequestOptions(headers={**self._headers, **routing(problem)})
        return await self._answer(path, lambda: self._client.post(endpoint, cast_to=kind, body=sent, options=options))

    async def get(self, path: str) -> bytes:
        endpoint = path.removeprefix("/v1")
        kind = openai.HttpxBinaryResponseContent
        options = openai.RequestOptions(headers=self._headers)
        return await self._answer(path, lambda: self._client.get(endpoint, cast_to=kind, options=options))

    async def _answer(self, path: str, ask: Callable[[], Awaitable[openai.HttpxBinaryResponseContent]]) -> bytes:
        try:
            with anyio.fail_after(self.address.timeout):  # the client's own time-out applies to each read
                return (await ask()).content
        except openai.APIStatusError as error:
            response = error.response
            text = response.content.decode(errors="replace")
            # `from None`: the text of the SDK's error is the body, in which the server may echo the key
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
        except Exception as error:  # the SDK may raise anything else; the text may contain the key
            reason = excerpt(f"{type(error).__name__}: {error}", self.address.key)
            raise BackendError(f'{self.address.url}{path}: {reason}. Does backend = "http" work?') from None


@asynccontextmanager
async def open_openai(address: Address) -> AsyncGenerator[OpenAITransport]:
    """Yield a transport. Its connections are closed when the block ends."""
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(  # of httpx or httpx2, whichever this SDK uses
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
