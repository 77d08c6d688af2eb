"""The transport for self-hosted servers. aiohttp needs a tenth of the CPU time per request of the ``openai`` SDK."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from arbiter.backends.served.transport import Address, refusal, routing, silent


class AiohttpTransport:
    """A ``Transport`` over an aiohttp session. ``open_aiohttp`` makes it."""

    def __init__(self, address: Address, session: aiohttp.ClientSession, proxy: str | None) -> None:
        self.address = address
        self._session = session
        self._proxy = proxy

    async def post(self, path: str, body: Mapping[str, Any], problem: str) -> bytes:
        return await self._answer("POST", path, msgspec.json.encode(body), routing(problem))

    async def get(self, path: str) -> bytes:
        return await self._answer("GET", path, None)

    async def _answer(self, method: str, path: str, data: bytes | None, more: Mapping[str, str] | None = None) -> bytes:
        try:
            url = self.address.url + path
            async with self._session.request(method, url, data=data, headers=more, proxy=self._proxy) as response:
                body = await response.read()
                if response.ok:
                    return body
                headers = {name.lower(): value for name, value in response.headers.items()}
        except aiohttp.ConnectionTimeoutError as error:
            raise silent(self.address, path, error, self.address.connect_timeout) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise silent(self.address, path, error) from error
        raise refusal(self.address, path, response.status, headers, body.decode(errors="replace"))


@asynccontextmanager
async def open_aiohttp(address: Address) -> AsyncGenerator[AiohttpTransport]:
    """Yield a transport. Its connections are closed when the block ends."""
    headers = {"content-type": "application/json"}
    if address.key:
        headers["authorization"] = f"Bearer {address.key}"
    timeout = aiohttp.ClientTimeout(total=address.timeout, sock_connect=address.connect_timeout)
    connector = aiohttp.TCPConnector(limit=address.connections)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers, raise_for_status=False
    ) as session:
        yield AiohttpTransport(address, session, _proxy(address.url))


def _proxy(url: str) -> str | None:
    """Return the environment's proxy for ``url``. It is looked up once.

    aiohttp's ``trust_env`` would use two threads for each request. It would also read ``.netrc``, which conflicts with
    the key.
    """
    where = urlsplit(url)
    return None if proxy_bypass(where.hostname or "") else getproxies().get(where.scheme)
