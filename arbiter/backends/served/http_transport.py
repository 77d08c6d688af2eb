"""The transport for self-hosted servers: connections of its own where they suffice, otherwise aiohttp."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from arbiter.backends.served.plain_transport import PLAIN, RedirectedError, open_plain
from arbiter.backends.served.transport import Address, Hear, Transport


class RedirectingTransport:
    """A ``Transport`` that makes requests with ``plain`` until the server redirects one, and then with aiohttp."""

    def __init__(self, plain: Transport, opened: AsyncExitStack) -> None:
        self.address = plain.address
        self._plain = plain
        self._opened = opened
        self._follower: Transport | None = None

    async def post(self, path: str, body: Mapping[str, Any], problem: str, hear: Hear | None = None) -> bytes:
        if self._follower is None:
            try:
                return await self._plain.post(path, body, problem, hear)
            except RedirectedError:
                pass
        return await (await self._following()).post(path, body, problem, hear)

    async def get(self, path: str) -> bytes:
        if self._follower is None:
            try:
                return await self._plain.get(path)
            except RedirectedError:
                pass
        return await (await self._following()).get(path)

    async def _following(self) -> Transport:
        if self._follower is None:
            self._follower = await self._opened.enter_async_context(_open_aiohttp(self.address, None))
        return self._follower


@asynccontextmanager
async def open_http(address: Address) -> AsyncGenerator[Transport]:
    """Yield the transport that ``address`` needs: TLS, proxies and unusual addresses need aiohttp.

    Its connections are closed when the block ends.
    """
    proxy = _proxy(address.url)
    async with AsyncExitStack() as opened:
        if proxy is None and PLAIN.fullmatch(address.url):
            plain = await opened.enter_async_context(open_plain(address))
            yield RedirectingTransport(plain, opened)
        else:
            yield await opened.enter_async_context(_open_aiohttp(address, proxy))


def _open_aiohttp(address: Address, proxy: str | None) -> AbstractAsyncContextManager[Transport]:
    from arbiter.backends.served.aiohttp_transport import open_aiohttp  # importing aiohttp takes long

    return open_aiohttp(address, proxy)


def _proxy(url: str) -> str | None:
    """Return the environment's proxy for ``url``. It is looked up once."""
    where = urlsplit(url)
    return None if proxy_bypass(where.hostname or "") else getproxies().get(where.scheme)
