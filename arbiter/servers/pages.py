"""The pages on which a server says how it is: whether it is ready, and its metrics."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import aiohttp

_SECONDS = 10.0


class Pages:
    """Reads the pages of servers; made by ``open_pages``."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def read(self, url: str) -> tuple[int, str]:
        """Status and text of a page; 0 if there is no answer."""
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self._session.get(url) as answer:
                return answer.status, await answer.text(errors="replace")
        return 0, ""


@asynccontextmanager
async def open_pages() -> AsyncGenerator[Pages]:
    """A reader of pages; its connections are closed when the block ends."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
        yield Pages(session)
