"""Spend caps: a key that has reached its cap is refused, or answered by the draft alone, until its window ends."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import parse
from arbiter.config.serve_tables import CapsTable
from arbiter.gateway.app import Gateway
from arbiter.gateway.inprocess_client import BASE, open_client, open_http_client
from arbiter.gateway.spend_caps import SpendCaps
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError, RequestError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Usage
from tests.hypothesis_profiles import examples

InVirtualTime = Callable[[Callable[[], Awaitable[None]]], None]
KEYS = ("first-secret", "second-secret")
PRICE = {"prompt": 0.0, "completion": 1_000_000.0}
FREE = {"prompt": 0.0, "completion": 0.0}
TABLES = {
    name: {"model": name, "prompt": "{question}", "price": price}
    for name, price in (("draft", FREE), ("target", PRICE), ("router", FREE))
}
ANSWER = 5.0
"""The cost of an answer: five tokens of the target at 1 each."""


def write(request: GenerationRequest) -> Generation:
    """Three steps of five tokens; the question ``slow`` is slow after the second."""
    return Generation(f"{request.author} {request.step}", "end" if request.step == 2 else "separator", Usage(10, 5))


def seconds(request: Any) -> float:
    return 1000.0 if request.step == 2 and request.transcript.question == "slow" else 0.0


class Endpoint:
    """An open endpoint with its models."""

    def __init__(self, gateway: Gateway, client: httpx2.AsyncClient, target: ScriptedGenerator) -> None:
        self.gateway = gateway
        self.client = client
        self.target = target

    async def chat(self, key: str = KEYS[0], question: str = "q", **body: Any) -> httpx2.Response:
        message = {"role": "user", "content": question}
        return await self.client.post(
            f"{BASE}/v1/chat/completions",
            json={"model": "arbiter", "messages": [message], **body},
            headers={"authorization": f"Bearer {key}"} if key else {},
        )

    async def metrics(self) -> str:
        return (await self.client.get(f"{BASE}/metrics", headers={"authorization": f"Bearer {KEYS[0]}"})).text


@asynccontextmanager
async def opened(
    keys: tuple[str, ...] = KEYS, kind: type[ScriptedGenerator] = ScriptedGenerator, **caps: Any
) -> AsyncGenerator[Endpoint]:
    """Open an endpoint with caps, whose draft is of a ``kind``."""
    target = ScriptedGenerator(write, seconds)
    models = Models(
        draft=ModelHandle(kind(write, seconds)),
        target=ModelHandle(target),
        scorers={"router": ModelHandle(ScriptedScorer(lambda request: 0.9 if request.step == 1 else 0.1))},
    )
    arbiter = Arbiter(parse({"models": TABLES, "serve": {"caps": caps}}, "test"), models=models)
    gateway = Gateway(arbiter, keys=keys)
    async with arbiter, open_http_client(gateway.app, httpx2) as client:
        gateway.check()
        yield Endpoint(gateway, client, target)


@pytest.mark.parametrize(
    ("cap", "window", "code", "kind"),
    [
        ("per_minute", 60, "rate_limit_exceeded", "rate_limit_error"),
        ("per_day", 86_400, "insufficient_quota", "insufficient_quota"),
    ],
)
def test_a_key_at_its_cap_is_refused_until_its_window_ends_and_no_other_key(
    cap: str, window: int, code: str, kind: str, in_virtual_time: InVirtualTime
) -> None:
    async def use() -> None:
        caps: dict[str, Any] = {cap: 2 * ANSWER}
        async with opened(**caps) as served:
            assert (await served.chat()).status_code == 200
            await anyio.sleep(10)
            assert (await served.chat()).status_code == 200
            calls = served.target.calls
            for stream in (False, True):
                refused = await served.chat(stream=stream)
                error = refused.json()["error"]
                assert (refused.status_code, error["code"], error["type"]) == (429, code, kind)
                assert refused.headers["retry-after"] == str(window - 10)
                assert f"(serve.caps.{cap})" in error["message"]
            assert served.target.calls == calls
            assert (await served.chat(KEYS[1])).status_code == 200
            await anyio.sleep(window - 11)
            assert (await served.chat()).status_code == 429
            await anyio.sleep(1)
            assert (await served.chat()).status_code == 200

    in_virtual_time(use)


def test_of_both_caps_the_one_that_lasts_longer_is_named(in_virtual_time: InVirtualTime) -> None:
    async def use() -> None:
        async with opened(per_minute=1.0, per_day=2.0) as served:
            await served.chat()
            assert (await served.chat()).json()["error"]["code"] == "insufficient_quota"

    in_virtual_time(use)


@pytest.mark.parametrize("path", ["chat", "stream", "completions", "responses"])
def test_at_the_cap_the_draft_alone_answers_if_so_configured_and_the_answer_says_so(
    path: str, in_virtual_time: InVirtualTime
) -> None:
    async def use() -> None:
        async with opened(per_day=ANSWER, at_cap="draft") as served:
            before = (await served.chat()).json()
            assert "at_cap" not in before["arbiter"]
            calls = served.target.calls
            if path == "chat":
                after = (await served.chat(model="arbiter:target")).json()["arbiter"]
            elif path == "stream":
                text = (await served.chat(stream=True)).text
                assert '"at_cap":"draft"' in text
                after = {"at_cap": "draft", "acceptance_rate": 1.0}
            else:
                body = {"prompt": "q"} if path == "completions" else {"input": "q"}
                key = {"authorization": f"Bearer {KEYS[0]}"}
                answer = await served.client.post(f"{BASE}/v1/{path}", json={"model": "arbiter", **body}, headers=key)
                whole = answer.json()
                after = (whole["choices"][0] if path == "completions" else whole)["arbiter"]
            assert (after["at_cap"], after["acceptance_rate"], served.target.calls) == ("draft", 1.0, calls)
            assert (await served.chat(model="gpt-7")).status_code == 404
            assert 'arbiter_capped_requests_total{key="key 1"} 2.0' in await served.metrics()

    in_virtual_time(use)


def test_a_client_that_leaves_before_the_end_has_spent_what_was_answered(in_virtual_time: InVirtualTime) -> None:
    async def use() -> None:
        async with opened(per_day=ANSWER) as served:
            with anyio.move_on_after(5):
                await served.chat(question="slow")
            await anyio.sleep(1)
            assert served.gateway.open == 0
            assert (await served.chat()).status_code == 429

    in_virtual_time(use)


def test_without_keys_all_clients_spend_together(in_virtual_time: InVirtualTime) -> None:
    async def use() -> None:
        async with opened(keys=(), per_day=ANSWER) as served:
            await served.chat(key="")
            refused = await served.chat(key="")
            assert refused.json()["error"]["message"].startswith("no key has spent 5 within a day")
            assert 'arbiter_key_cost_total{key="no key"} 5.0' in await served.metrics()

    in_virtual_time(use)


def test_no_key_is_in_a_log_a_metric_or_a_message(
    in_virtual_time: InVirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def use() -> None:
        async with opened(per_day=ANSWER) as served:
            await served.chat(KEYS[1])
            said = [(await served.chat(KEYS[1])).text, await served.metrics()]
            said += [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
            assert "key 2 has spent" in said[0]
            assert 'arbiter_key_cost_total{key="key 2"} 5.0' in said[1]
            assert not [text for text in said for key in KEYS if key in text]

    in_virtual_time(use)


def test_the_openai_client_gets_its_own_error_at_the_cap() -> None:
    async def use() -> None:
        async with opened(per_day=ANSWER) as served:
            await served.chat()
            async with open_client(served.gateway.app, KEYS[0]) as client:
                once = client.with_options(max_retries=0)
                with pytest.raises(openai.RateLimitError) as refused:
                    await once.chat.completions.create(model="arbiter", messages=[{"role": "user", "content": "q"}])
        assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")

    anyio.run(use)  # the client starts threads, which virtual time does not wait for


@pytest.mark.parametrize("key", ["per_minute", "per_day"])
@pytest.mark.parametrize("cap", [0, -1.0, 1e10, float("inf"), float("nan"), "much", True])
def test_a_cap_out_of_range_is_refused_by_its_key(key: str, cap: Any) -> None:
    with pytest.raises(ConfigError, match=rf"test: serve\.caps\.{key}: "):
        parse({"models": {}, "serve": {"caps": {key: cap}}}, "test")


@pytest.mark.parametrize(
    ("caps", "what"),
    [
        ({"at_cap": "beg"}, r"serve\.caps\.at_cap: .*; one of refuse, draft"),
        ({"per_hour": 1.0}, r"unknown key 'serve\.caps\.per_hour'; did you mean 'per_(minute|day)'|known here"),
    ],
)
def test_other_mistakes_are_named_by_their_keys_too(caps: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse({"models": {}, "serve": {"caps": caps}}, "test")


@pytest.mark.parametrize("key", ["per_minute", "per_day"])
def test_a_cap_without_prices_is_a_configuration_error(key: str) -> None:
    free = {
        name: {field: value for field, value in table.items() if field != "price"} for name, table in TABLES.items()
    }
    for models in ({}, {**TABLES, "target": free["target"]}):
        config = parse({"models": models, "serve": {"caps": {key: 1}}}, "test")
        with pytest.raises(ConfigError, match=rf"serve\.caps\.{key} needs the prices of all models"):
            Gateway(Arbiter(config))


def test_going_on_with_the_draft_needs_the_draft(in_virtual_time: InVirtualTime) -> None:
    async def use() -> None:
        config = parse({"models": TABLES, "run_type": "target", "serve": {"caps": {"at_cap": "draft"}}}, "test")
        target = Models(target=ModelHandle(ScriptedGenerator(write)))
        arbiter = Arbiter(config, models=target, run_types=["target"])
        gateway = Gateway(arbiter)
        async with arbiter:
            with pytest.raises(ConfigError, match=r"serve\.caps\.at_cap needs the draft"):
                gateway.check()

    in_virtual_time(use)


@given(
    st.lists(
        st.tuples(st.sampled_from(("charge", "check")), st.sampled_from(KEYS), st.integers(0, 50), st.integers(0, 9)),
        max_size=40,
    ),
    st.integers(1, 20),
)
@examples(0.5)
def test_a_key_passes_exactly_while_its_window_has_spent_less_than_its_cap(
    in_virtual_time: InVirtualTime, moves: list[tuple[str, str, int, int]], cap: int
) -> None:
    async def use() -> None:
        caps, windows = SpendCaps(CapsTable(per_minute=float(cap))), dict[str, tuple[float, int]]()
        for move, key, pause, cost in moves:
            await anyio.sleep(pause)
            begun, spent = windows.get(key, (-1000.0, 0))
            if begun + 60 <= anyio.current_time():
                begun, spent = anyio.current_time(), 0
            if move == "charge":
                caps.charge(key, float(cost))
                windows[key] = begun, spent + cost
            elif spent >= cap:
                with pytest.raises(RequestError):
                    caps.check(Request({"type": "http", "state": {"key": key}}))
            else:
                caps.check(Request({"type": "http", "state": {"key": key}}))

    in_virtual_time(use)
