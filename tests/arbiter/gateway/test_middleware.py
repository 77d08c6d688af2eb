"""Keys, and the contents of the access log."""

import logging
from typing import Any

import pytest

from arbiter.gateway.inprocess_client import BASE

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/arbiter", "/live", "/metrics", "/v1/nowhere"])
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic one", "one", "Bearer", "Bearer ", "Bearer one two"])
@pytest.mark.slow
async def test_without_a_valid_key_nothing_is_told(endpoint: Any, path: str, header: str | None) -> None:
    async with endpoint(keys=("one", "two")) as served:
        refused = await served.client.get(BASE + path, headers={"authorization": header} if header else {})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert refused.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("key", ["one", "two"])
async def test_each_of_the_keys_opens_the_door(endpoint: Any, key: str) -> None:
    async with endpoint(keys=("one", "two")) as served, served.gateway.client(key) as client:
        assert (await client.models.list()).data[0].id == "arbiter"


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/openapi.json"])
async def test_the_checks_and_the_empty_page_need_no_key(endpoint: Any, path: str) -> None:
    async with endpoint(keys=("one",)) as served:
        assert (await served.client.get(BASE + path)).status_code == 200


async def test_the_access_log_names_the_problems_and_never_a_key_or_a_text(
    endpoint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "arbiter.access")
    async with endpoint(keys=("secret-key",)) as served, served.gateway.client("secret-key") as client:
        answer = await client.chat.completions.create(
            model="arbiter", messages=[{"role": "user", "content": "a private question"}]
        )
    told = [vars(record) for record in caplog.records if record.name == "arbiter.access"]
    assert (told[0]["path"], told[0]["status"]) == ("/v1/chat/completions", 200)
    assert told[0]["problems"] == [answer.id.removeprefix("chatcmpl-")]
    assert told[0]["request"] == answer._request_id
    assert "secret-key" not in str(told)
    assert "private" not in str(told)
