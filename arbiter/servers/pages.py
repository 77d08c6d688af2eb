"""Reads the pages where a server reports its state: readiness and metrics."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import aiohttp

_SECONDS = 10.0


class Pages:
    """A reader of servers' pages. Create it with ``open_pages``."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def read(self, url: str) -> tuple[int, str]:
        """Return the status and text of a page. The status is 0 if there is no answer."""
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self._session.get(url) as answer:
                return answer.status, await answer.text(errors="replace")
        return 0, ""


@asynccontextmanager
async def open_pages() -> AsyncGenerator[Pages]:
    """Open a reader of pages. Its connections are closed when the block ends."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
        yield Pages(session)
