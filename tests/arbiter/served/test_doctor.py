"""What the doctor says of a server: what it saw, and the way out of what is wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from arbiter.config import parse
from arbiter.doctor import Finding, examine

pytestmark = pytest.mark.asyncio

STEP = "12+30: 2+0=2,1+3=4: 42."


async def found(name: str, url: str, **keys: Any) -> Finding:
    """The finding of a configuration with one model, whose table has ``keys`` besides what it must have."""
    table = {"backend": "http", "url": url, "model": "m", "prompt": "plain", "retries": 0, "timeout": 20, **keys}
    [finding] = [finding async for finding in examine(parse({"models": {name: table}}, "test"))]
    return finding


async def test_a_model_that_does_all_is_told_with_its_context_and_what_it_did(
    server: Any, answer: Callable[..., Any]
) -> None:
    server.replies(answer(STEP))
    finding = await found("draft", server.url)
    assert (finding.model, finding.state) == ("draft", "ok")
    told = "; ".join(finding.told)
    assert f"m at {server.url}, a context of 1024 tokens" in told
    assert "a step of 3 tokens" in told
    assert r"stopped at the separator '\n\n'" in told
    assert "honours seeds" in told


async def test_a_model_that_never_stops_is_a_warning_that_names_its_prompt(
    server: Any, answer: Callable[..., Any]
) -> None:
    server.replies(answer("and so on", finish_reason="length", matched_stop=None))
    finding = await found("draft", server.url)
    assert finding.state == "warning"
    assert "prompt = 'plain'" in "; ".join(finding.told)


async def test_a_server_that_ignores_seeds_is_found_out(server: Any, answer: Callable[..., Any]) -> None:
    server.replies(*(answer(text) for text in (STEP, "one", "two", "three")))
    assert any("ignores seeds" in told for told in (await found("target", server.url)).told)


async def test_a_server_that_names_no_stop_is_found_out(
    server: Any, engine: Callable[[str, Callable[[Any], str]], Any]
) -> None:
    server.replies(engine("plain", lambda _: f"{STEP}\n\nmore"))
    assert any("does not say what stopped it" in told for told in (await found("draft", server.url)).told)


async def test_scores_are_shown_for_a_right_step_and_a_wrong_one(server: Any, scored: Callable[..., Any]) -> None:
    server.replies(scored(2.0), scored(-2.0))
    finding = await found("prm", server.url)
    assert finding.state == "ok"
    assert "scored a right step 0.881 and a wrong one 0.119" in finding.told


async def test_scores_that_do_not_tell_steps_apart_are_a_warning(server: Any, scored: Callable[..., Any]) -> None:
    server.replies(scored(1.0))
    assert (await found("router", server.url)).state == "warning"


async def test_a_model_that_the_server_does_not_have_has_failed_and_those_it_has_are_named(server: Any) -> None:
    finding = await found("draft", server.url, model="another")
    assert finding.state == "failed"
    assert finding.told == (f"{server.url} does not serve 'another'; it serves: m",)


async def test_one_model_that_fails_does_not_hide_the_next(server: Any, answer: Callable[..., Any]) -> None:
    server.replies(answer(STEP))
    table = {"backend": "http", "url": server.url, "model": "m", "prompt": "plain", "retries": 0}
    tree = {"models": {"draft": {**table, "model": "another"}, "target": table}}
    findings = [finding async for finding in examine(parse(tree, "test"))]
    assert [(finding.model, finding.state) for finding in findings] == [("draft", "failed"), ("target", "ok")]
