"""Which servers stop decoding in order to read, how escalations to a target gather, and who gets slots in groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.backends.opening import open_tables
from arbiter.backends.served.decoding_pauses import pauses_decoding
from arbiter.config.model_tables import (
    IN_PROCESS_GATHER,
    PAUSING_GATHER,
    SERVED_SHARE,
    AnyModelTable,
    InProcessTable,
    ServedTable,
)
from arbiter.protocols.ports import Gather

if TYPE_CHECKING:
    from conftest import Asked, FakeServer, Reply

Table = Callable[..., AnyModelTable]
Script = Callable[["Asked"], "Reply"]

PAUSING: dict[str, Any] = {"version": "0.5.23", "enable_mixed_chunk": False, "internal_states": [{}]}
MIXED: dict[str, Any] = {**PAUSING, "enable_mixed_chunk": True}


def about(body: object, status: int = 200) -> Script:
    return lambda asked: {"body": body, "status": status} if asked.path == "/server_info" else {"status": 404}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("keys", "script", "pauses"),
    [
        ({}, about(PAUSING), True),
        ({}, about(MIXED), False),
        ({}, about({"vllm_config": "…"}), False),
        ({}, about("<html>"), False),
        ({}, about({}, status=404), False),
        ({}, about({}, status=500), False),
        ({"engine": "sglang"}, about({}, status=404), True),  # it does by default
        ({"engine": "sglang"}, about(MIXED), False),
        ({"priority": "sglang"}, about({}, status=404), True),
        ({"engine": "vllm"}, about(PAUSING), False),
        ({"engine": "other"}, about(PAUSING), False),
        ({"priority": "vllm"}, about(PAUSING), False),
    ],
)
async def test_only_sglang_without_mixed_chunks_stops_decoding_in_order_to_read(
    server: FakeServer, table: Table, backend: str, keys: dict[str, str], script: Script, pauses: bool
) -> None:
    server.about = script
    served = table(**keys)
    assert isinstance(served, ServedTable)
    assert await pauses_decoding("target", served) is (pauses and backend == "http")


@pytest.mark.asyncio
async def test_a_server_that_cannot_be_reached_is_no_error(table: Table, backend: str) -> None:
    served = table(url="http://127.0.0.1:9")
    assert isinstance(served, ServedTable)
    assert await pauses_decoding("target", served) is False


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("keys", "gather"),
    [
        ({}, Gather(PAUSING_GATHER, SERVED_SHARE)),
        ({"engine": "vllm"}, None),
        ({"engine": "vllm", "gather": 0.1}, Gather(0.1, SERVED_SHARE)),
        ({"gather": 0.0}, None),
    ],
)
@pytest.mark.parametrize("name", ["target", "targets.large"])
@pytest.mark.slow
async def test_a_served_target_gathers_as_its_table_or_its_engine_says(
    server: FakeServer, table: Table, backend: str, name: str, keys: dict[str, Any], gather: Gather | None
) -> None:
    server.about = about(PAUSING)
    async with open_tables({name: table("target", **keys)}, None) as models:
        handle = models.target
    assert handle is not None
    assert handle.gather == (gather if backend == "http" or "gather" in keys else None)


@pytest.mark.asyncio
@pytest.mark.parametrize(("keys", "pauses"), [({}, True), ({"engine": "vllm"}, False), ({"engine": "other"}, False)])
@pytest.mark.parametrize("name", ["draft", "target"])
async def test_a_server_that_pauses_gets_requests_in_groups_and_no_draft_gathers(
    server: FakeServer, table: Table, backend: str, name: str, keys: dict[str, Any], pauses: bool
) -> None:
    server.about = about(PAUSING)
    async with open_tables({name: table(name, **keys)}, None) as models:
        handle = models.draft if name == "draft" else models.target
    assert handle is not None
    assert handle.pauses is (pauses and backend == "http")
    assert name == "target" or handle.gather is None


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "gather"), [({}, Gather(IN_PROCESS_GATHER)), ({"gather": 0.5}, Gather(0.5)), ({"gather": 0.0}, None)]
)
async def test_a_target_in_process_waits_for_the_draft_and_not_for_a_share(
    keys: dict[str, Any], gather: Gather | None
) -> None:
    table = InProcessTable(model="pocket:target", prompt="plain", **keys)
    async with open_tables({"target": table}, None) as models:
        assert models.target is not None
        assert models.target.gather == gather
        assert models.target.pauses is False  # it reads and decodes in the same pass
