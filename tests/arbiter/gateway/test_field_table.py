"""The documented table of request fields agrees with the request bodies, and has every field of OpenAI's interface."""

from pathlib import Path
from typing import Any

import pytest
from openai.types import completion_create_params as completions
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses

from docs import field_table

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "http-api.md"
SDK: dict[str, Any] = {
    "chat": chat.CompletionCreateParamsBase,
    "completions": completions.CompletionCreateParamsBase,
    "responses": responses.ResponseCreateParamsBase,
}


def test_the_documented_table_is_that_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert field_table.table() in page, f"put this into {PAGE}:\n{field_table.table()}"
    assert page.count(field_table.table().partition("\n")[0]) == page.count("- *honoured*: ") == 1


@pytest.mark.parametrize("path", SDK)
def test_the_table_has_every_field_of_the_openai_package(path: str) -> None:
    rows = field_table.rows()
    assert {name for name in SDK[path].__annotations__ if path not in rows.get(name, {})} == set()


@pytest.mark.parametrize("path", SDK)
@pytest.mark.asyncio
async def test_a_field_that_is_documented_as_refused_is_refused_and_as_logged_is_taken(
    endpoint: Any, path: str
) -> None:
    question = {"chat": {"messages": [{"role": "user", "content": "q"}]}, "completions": {"prompt": "q"}}
    url = "chat/completions" if path == "chat" else path
    body = question.get(path, {"input": "q"})
    async with endpoint() as served:
        for name, fates in field_table.rows().items():
            value: Any = {"a": "b"} if name == "metadata" else "something"
            if fates.get(path) in ("refused", "logged"):
                answer = await served.post(url, **body, **{name: value})
                assert answer.status_code == (400 if fates[path] == "refused" else 200), name
