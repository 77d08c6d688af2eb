"""The transport over aiohttp, for addresses with TLS, behind a proxy, or of servers that redirect."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from arbiter.backends.served.http_bodies import PACKING, TooLargeError, connection_fields, too_large, unpacked_answer
from arbiter.backends.served.refusals import silent
from arbiter.backends.served.transport import Address, Hear, routing


class AiohttpTransport:
    """A ``Transport`` over an aiohttp session. ``open_aiohttp`` makes it."""

    def __init__(self, address: Address, session: aiohttp.ClientSession, proxy: str | None) -> None:
        self.address = address
        self._session = session
        self._proxy = proxy

    async def post(self, path: str, body: Mapping[str, Any], problem: str, hear: Hear | None = None) -> bytes:
        headers = {**routing(problem), **connection_fields(body)}
        return await self._answer("POST", path, msgspec.json.encode(body), headers, hear)

    async def get(self, path: str) -> bytes:
        return await self._answer("GET", path, None)

    async def _answer(
        self,
        method: str,
        path: str,
        data: bytes | None,
        more: Mapping[str, str] | None = None,
        hear: Hear | None = None,
    ) -> bytes:
        try:
            url = self.address.at(path)
            async with self._session.request(method, url, data=data, headers=more, proxy=self._proxy) as response:
                is_heard = response.status == 200 and "content-encoding" not in response.headers
                body = await _read(response, self.address.largest_body, hear if is_heard else None)
                headers = {name.lower(): value for name, value in response.headers.items()}
        except aiohttp.ConnectionTimeoutError as error:
            raise silent(self.address, path, error, self.address.connect_timeout) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # `from None`: the text of aiohttp's error may be a part of the answer, in which the server may echo the key
            raise silent(self.address, path, error) from None
        except TooLargeError:
            raise too_large(self.address, path) from None
        return unpacked_answer(self.address, path, response.status, headers, body)


@asynccontextmanager
async def open_aiohttp(address: Address, proxy: str | None = None) -> AsyncGenerator[AiohttpTransport]:
    """Yield a transport that makes its requests through ``proxy``, if any. The block's end closes its connections.

    The proxy is an argument because aiohttp's ``trust_env`` would use two threads for each request. It would also read
    ``.netrc``, which conflicts with the key.
    """
    headers = {"content-type": "application/json", "accept-encoding": PACKING}
    if address.key:
        headers["authorization"] = f"Bearer {address.key}"
    timeout = aiohttp.ClientTimeout(total=address.timeout, sock_connect=address.connect_timeout)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=address.connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        headers=headers,
        raise_for_status=False,
        auto_decompress=False,
    ) as session:
        yield AiohttpTransport(address, session, proxy)


async def _read(response: aiohttp.ClientResponse, largest: int, hear: Hear | None) -> bytes:
    """Return the body, still packed. Raises ``TooLargeError`` as soon as it is larger than ``largest`` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > largest:
            raise TooLargeError
        parts.append(part)
        if hear is not None:
            hear(part)
    return b"".join(parts)
