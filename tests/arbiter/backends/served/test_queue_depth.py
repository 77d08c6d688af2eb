"""The number of waiting requests of a server, as each engine reports it, and its use in a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.backends.opening import open_tables
from arbiter.backends.served.queue_depth import open_queue_depth
from arbiter.config.config import load_config
from arbiter.config.model_tables import AnyModelTable, ServedTable

if TYPE_CHECKING:
    from conftest import Asked, FakeServer, Reply

Table = Callable[..., AnyModelTable]

SGLANG = {"timestamp": "…", "loads": [{"dp_rank": 0, "num_waiting_reqs": 3}, {"dp_rank": 1, "num_waiting_reqs": 4}]}
VLLM = """\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 5.0
vllm:num_requests_waiting{engine="1",model_name="m"} 6.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 5.0
"""


def telling(path: str, body: object) -> Callable[[Asked], Reply]:
    return lambda asked: {"body": body} if asked.path == path else {"status": 404}


@pytest.fixture
def waiting(server: FakeServer, table: Table) -> Callable[[Any], Any]:
    """Return the queue depth of a server with this script; ``none`` if the server does not report it."""

    async def look(script: Any) -> int | str | None:
        server.about = script
        served = table()
        assert isinstance(served, ServedTable)
        async with open_queue_depth("draft", served) as queue_depth:
            return "none" if queue_depth is None else await queue_depth.waiting()

    return look


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/loads", SGLANG, 7),
        ("/v1/loads", {"loads": []}, 0),
        ("/metrics", VLLM, 11),
        ("/metrics", "# nothing of that kind", "none"),
        ("/v1/loads", "<html>", "none"),
        ("/nowhere", "", "none"),
    ],
)
async def test_each_engine_is_understood(waiting: Any, backend: str, path: str, body: object, told: int | str) -> None:
    assert await waiting(telling(path, body)) == (told if backend == "http" else "none")


@pytest.mark.asyncio
async def test_a_server_that_tells_nothing_any_more_is_no_error(server: FakeServer, table: Table, backend: str) -> None:
    served = table()
    assert isinstance(served, ServedTable)
    server.about = telling("/v1/loads", SGLANG)
    async with open_queue_depth("draft", served) as queue_depth:
        if backend == "openai":
            assert queue_depth is None
            return
        assert queue_depth
        server.about = lambda _: {"status": 500}
        assert await queue_depth.waiting() is None


@pytest.mark.asyncio
@pytest.mark.parametrize("adaptive", [True, False])
async def test_the_seat_of_a_server_adapts_unless_it_is_pinned(
    server: FakeServer, table: Table, backend: str, adaptive: bool
) -> None:
    server.about = telling("/v1/loads", SGLANG)
    async with open_tables({"draft": table()}, None, adaptive) as models:
        handle = models.draft
        assert handle
        assert (handle.adaptive, handle.queue_depth is not None) == (adaptive, adaptive and backend == "http")


@pytest.mark.asyncio
async def test_a_model_in_process_has_no_queue_of_a_server() -> None:

    draft = load_config("pocket").models.draft
    assert draft
    async with open_tables({"draft": draft}, 1, adaptive=True) as models:
        assert models.draft
        assert not models.draft.adaptive
