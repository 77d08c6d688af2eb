"""The checks before any work starts."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from arbiter.backends.served.served_models import ServedModel, served_model
from arbiter.config.config import parse
from arbiter.config.model_tables import ServedTable
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.ports import Generation, Generator, Score

if TYPE_CHECKING:
    from conftest import FakeServer

Ask = Callable[..., Awaitable[Generation | Score]]
Answer = Callable[..., dict[str, Any]]
AGenerator = Callable[..., AbstractAsyncContextManager[Generator]]
Table = Callable[..., ServedTable]

NAMES = {"step": "draft", "score": "prm"}


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of the table that ``ask`` opens."""
    return NAMES[request.node.callspec.params["ask"]]


@pytest.mark.asyncio
async def test_a_model_that_the_server_lists_is_found_with_its_context(server: FakeServer, table: Table) -> None:
    assert await served_model("draft", table()) == ServedModel("m", 1024)
    assert [asked.path for asked in server.looks] == ["/v1/models"]


@pytest.mark.asyncio
@pytest.mark.parametrize("listed", [[{"id": "other"}, {"id": "m"}], {"data": [{"id": "m", "max_model_len": None}]}])
async def test_a_list_may_be_bare_and_need_not_tell_a_context(listed: Any, server: FakeServer, table: Table) -> None:
    server.models = {"body": listed}
    assert await served_model("draft", table()) == ServedModel("m")


@pytest.mark.asyncio
@pytest.mark.parametrize(("there", "told"), [(["a", "b"], "a, b"), ([], "none")])
@pytest.mark.slow
async def test_a_model_that_the_server_does_not_list_is_refused_with_those_that_it_does(
    there: list[str], told: str, server: FakeServer, ask: Ask, name: str
) -> None:
    server.models = {"body": {"data": [{"id": model} for model in there]}}
    with pytest.raises(BackendError) as caught:
        await ask()
    assert str(caught.value) == f"models.{name}: {server.url} does not serve 'm'; it serves: {told}"
    assert server.asked == []


@pytest.mark.asyncio
async def test_a_server_that_is_not_there_is_refused_at_the_start(ask: Ask, name: str) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # and not listening
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(BackendError) as caught:
            await ask({"url": url})
    assert str(caught.value).startswith(f"models.{name}: {url}/v1/models does not answer: ")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({"status": 401, "body": "who?"}, "answered 401: who?. Set api_key_env to the name of the environment"),
        ({"body": "<html>"}, "answered with HTML: <html>. Is the url that of a model's server, not of a web page?"),
        ({"body": {"models": []}}, "answered with something unexpected (Object missing required field `data`)"),
        ({"fault": "half", "body": "x" * 100}, "does not answer: "),
    ],
)
@pytest.mark.slow
async def test_a_list_that_is_none_is_refused_at_the_start(
    reply: dict[str, Any], told: str, server: FakeServer, ask: Ask, name: str
) -> None:
    server.models = reply
    with pytest.raises(BackendError) as caught:
        await ask()
    assert str(caught.value).startswith(f"models.{name}: {server.url}/v1/models {told}")
    assert server.asked == []


@pytest.mark.asyncio
async def test_the_look_at_the_start_is_tried_again_once_at_the_most(server: FakeServer, step: Ask) -> None:
    server.models = {"fault": "half", "body": "x" * 100}
    with pytest.raises(BackendError, match=r"\(after 2 attempts\)$"):
        await step({"retries": 5})
    assert len(server.looks) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [404, 405, 500, 503])
@pytest.mark.slow
async def test_a_server_without_a_list_is_tried_with_one_small_request(
    status: int, server: FakeServer, ask: Ask, answer: Answer, scored: Answer
) -> None:
    server.models = {"status": status}
    server.replies({"body": {**answer()["body"], **scored(0.0)["body"]}})
    await ask()
    (trial,), (asked,) = server.trials, server.asked
    assert (trial.path, trial.body["model"]) == (asked.path, "m")
    assert trial.body.get("max_tokens", 1) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "told"), [(404, "answered 404"), (500, "answered 500"), (401, "answered 401")])
@pytest.mark.slow
async def test_a_server_without_a_list_that_fails_the_request_is_refused_at_the_start(
    status: int, told: str, server: FakeServer, ask: Ask, name: str
) -> None:
    server.models, server.trial = {"status": 404}, {"status": status, "body": ""}
    with pytest.raises(BackendError) as caught:
        await ask()
    path = server.trials[0].path
    assert str(caught.value).startswith(f"models.{name}: {server.url}{path} {told}. ")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("trial", "told"),
    [
        ({"status": 404, "body": "Not Found"}, "answered 404: Not Found. Is the url right"),
        (
            {"body": {"embedding": [0.1] * 8, "data": [{"embedding": [0.1] * 8}]}},
            "answered with 8 numbers; a scorer has",
        ),
        (
            {"body": {"embedding": [None], "data": [{"embedding": [None]}]}},
            "answered with a score that is not a number",
        ),
    ],
)
async def test_a_scorer_is_tried_before_any_work_whatever_its_server_lists(
    trial: dict[str, Any], told: str, server: FakeServer, score: Ask
) -> None:
    server.trial = trial
    with pytest.raises(BackendError, match=r"^models\.prm: ") as caught:
        await score()
    assert told in str(caught.value)
    assert (len(server.trials), server.asked) == (1, [])


@pytest.mark.asyncio
@pytest.mark.parametrize("value", [None, "", "  \n"])
async def test_a_key_that_is_not_there_is_refused_with_its_variable(
    value: str | None, server: FakeServer, ask: Ask, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY_OF_A_TEST", raising=False)
    if value is not None:
        monkeypatch.setenv("KEY_OF_A_TEST", value)
    with pytest.raises(ConfigError) as caught:
        await ask({"api_key_env": "KEY_OF_A_TEST"})
    told = f"models.{name}: the environment variable KEY_OF_A_TEST (api_key_env) is not set; set it to the key, "
    assert str(caught.value).startswith(told)
    assert server.looks == []


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["sk-secret\nnobody", "sk-secret…", "“sk-secret”", "sk-secret\x07"])
async def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(
    value: str, server: FakeServer, step: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_A_TEST", value)
    with pytest.raises(ConfigError, match=r"^models\.draft: the environment variable KEY_OF_A_TEST") as caught:
        await step({"api_key_env": "KEY_OF_A_TEST"})
    assert "secret" not in str(caught.value)
    assert server.looks == []


def test_a_hosted_model_wants_the_key_of_its_host_unless_it_is_told_otherwise() -> None:
    table = {"backend": "openai", "model": "m", "prompt": "{question}"}
    models = parse({"models": {"draft": table, "target": {**table, "api_key_env": ""}}}, "test").models
    assert isinstance(models.draft, ServedTable)
    assert isinstance(models.target, ServedTable)
    assert (models.draft.api_key_env, models.target.api_key_env) == ("OPENAI_API_KEY", "")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:30000", "must begin with http:// or https://"),
        ("ftp://localhost", "must begin with http:// or https://"),
        ("http://", "is not an address; write it like 'http://localhost:30000'"),
        ("http://:30000", "is not an address"),
        ("http://localhost:PORT", "is not an address"),
        ("http://localhost:99999", "is not an address"),
        ("http://local host", "is not an address"),
        ("http://[::1", "is not an address"),
    ],
)
def test_an_address_that_is_none_is_refused_with_its_key(url: str, told: str, table: Table) -> None:
    with pytest.raises(ConfigError) as caught:
        table(url=url)
    assert str(caught.value).startswith(f"test: models.draft.url: {url!r} {told}")


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), 1e9])
def test_a_time_out_that_is_none_is_refused_with_its_key(timeout: float, table: Table) -> None:
    with pytest.raises(ConfigError, match=r"^test: models\.draft\.timeout: "):
        table(timeout=timeout)


def test_a_server_cannot_be_reached_from_trio_and_it_is_said_why() -> None:
    table = parse(
        {"models": {"draft": {"backend": "http", "url": "http://127.0.0.1:9", "model": "m", "prompt": "plain"}}}, "test"
    ).models.draft
    assert isinstance(table, ServedTable)
    with pytest.raises(ConfigError, match=r"models\.draft: served models need asyncio"):
        anyio.run(served_model, "draft", table, backend="trio")
