"""The requests that a server receives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.protocols.ports import Generation, Score
from arbiter.protocols.records import Step, Transcript

if TYPE_CHECKING:
    from conftest import FakeServer

Ask = Callable[..., Awaitable[Generation | Score]]
Answer = Callable[..., dict[str, Any]]

KEY = "sk-of-nobody"
STEPS = Transcript("2+2?", (Step("First.", "draft"), Step("Second.", "target")))


@pytest.mark.asyncio
async def test_a_greedy_step_is_asked_for_with_exactly_these_fields(
    server: FakeServer, step: Ask, answer: Answer
) -> None:
    server.replies(answer())
    await step()
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v1/completions")
    assert asked.body == {"model": "m", "prompt": "1+1?\n", "max_tokens": 50, "stop": ["\n\n"], "temperature": 0.0}


@pytest.mark.asyncio
async def test_above_temperature_0_a_step_is_asked_for_with_the_share_and_the_seed_too(
    server: FakeServer, step: Ask, answer: Answer
) -> None:
    server.replies(answer())
    await step(temperature=0.7, separator="\n", max_tokens=9)
    wanted = {"max_tokens": 9, "stop": ["\n"], "temperature": 0.7, "top_p": 0.9, "seed": 7}
    assert server.asked[0].body == {"model": "m", "prompt": "1+1?\n", **wanted}


@pytest.mark.asyncio
async def test_a_prompt_is_the_template_and_the_steps_each_with_the_separator_behind_it(
    server: FakeServer, step: Ask, answer: Answer
) -> None:
    server.replies(answer())
    await step({"prompt": "Q: {question} A: ", "annotate": True}, transcript=STEPS)
    assert server.asked[0].body["prompt"] == "Q: 2+2? A: Model 0: First.\n\nModel 1: Second.\n\n"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("scores", "path", "field"), [("classify", "/classify", "text"), ("embeddings", "/v1/embeddings", "input")]
)
async def test_a_score_is_asked_for_with_exactly_these_fields(
    scores: str, path: str, field: str, server: FakeServer, score: Ask, scored: Answer, backend: str
) -> None:
    if (backend, scores) == ("openai", "classify"):
        pytest.skip("refused by the configuration")
    server.replies(scored(0.0))
    await score({"scores": scores}, transcript=STEPS, candidate="Third.")
    (asked,) = server.asked
    assert (asked.path, asked.body) == (path, {"model": "m", field: "2+2?\nFirst.\n\nSecond.\n\nThird.\n\n"})


@pytest.mark.asyncio
async def test_a_scorer_is_asked_in_its_backends_own_dialect_if_none_is_written(
    server: FakeServer, score: Ask, scored: Answer, backend: str
) -> None:
    server.replies(scored(0.0))
    await score()
    assert server.asked[0].path == {"http": "/classify", "openai": "/v1/embeddings"}[backend]


@pytest.mark.asyncio
async def test_without_a_key_no_request_is_authorized(
    server: FakeServer, ask: Ask, answer: Answer, scored: Answer
) -> None:
    server.replies({"body": {**answer()["body"], **scored(0.0)["body"]}})
    await ask()
    assert ["authorization" in asked.headers for asked in (*server.looks, *server.asked)] == [False, False]


@pytest.mark.asyncio
async def test_with_a_key_every_request_is_authorized(
    server: FakeServer, ask: Ask, answer: Answer, scored: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_A_TEST", f" {KEY}\n")
    server.replies({"body": {**answer()["body"], **scored(0.0)["body"]}})
    await ask({"api_key_env": "KEY_OF_A_TEST"})
    assert [asked.headers["authorization"] for asked in (*server.looks, *server.asked)] == [f"Bearer {KEY}"] * 2


@pytest.mark.asyncio
async def test_a_password_of_the_host_in_netrc_is_not_sent(
    server: FakeServer, step: Ask, answer: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("KEY_OF_A_TEST", KEY)
    server.replies(answer())
    await step({"api_key_env": "KEY_OF_A_TEST"})
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.asyncio
async def test_an_environments_proxy_is_used(
    server: FakeServer, step: Ask, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    server.replies(answer())
    await step({"url": "http://nowhere.invalid:1"})
    assert (server.asked[0].path, server.asked[0].headers["host"]) == ("/v1/completions", "nowhere.invalid:1")


@pytest.mark.asyncio
@pytest.mark.parametrize("behind", ["", "/", "/v1", "/v1/"])
@pytest.mark.slow
async def test_an_address_is_the_same_with_and_without_v1_behind_it(
    behind: str, server: FakeServer, step: Ask, answer: Answer
) -> None:
    server.replies(answer())
    await step({"url": server.url + behind})
    assert [asked.path for asked in (*server.looks, *server.asked)] == ["/v1/models", "/v1/completions"]


@pytest.mark.asyncio
async def test_an_address_may_have_a_path_of_its_own(server: FakeServer, step: Ask, answer: Answer) -> None:
    server.replies(server.models, answer())
    await step({"url": server.url + "/api/v1"})
    assert [asked.path for asked in server.asked] == ["/api/v1/models", "/api/v1/completions"]


@pytest.mark.asyncio
@pytest.mark.slow
async def test_all_requests_of_a_problem_have_one_routing_key_and_other_problems_another(
    server: FakeServer, ask: Ask, answer: Answer, scored: Answer
) -> None:
    server.replies({"body": {**answer()["body"], **scored(1.0)["body"]}})
    for problem in ("a", "a", "ä\n", "b"):
        await ask(problem=problem)
    keys = [asked.headers["x-smg-routing-key"] for asked in server.asked]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.asyncio
async def test_llama_cpp_in_the_table_is_told_to_leave_the_models_distribution_as_it_is(
    server: FakeServer, step: Ask, answer: Answer
) -> None:
    server.replies(answer())
    await step({"server": {"engine": "llama.cpp"}})
    neutral = {"repeat_penalty": 1.0, "min_p": 0.0, "top_k": 0}
    assert {name: server.asked[0].body.get(name) for name in neutral} == neutral
