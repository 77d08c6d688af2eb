"""The doctor's findings about a server, and how to fix what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from arbiter.config.config import parse
from arbiter.servers.doctor import Check, Finding, examine

if TYPE_CHECKING:
    from conftest import Asked, FakeServer

pytestmark = pytest.mark.asyncio

STEPS = ("12+30: 2+0=2,1+3=4: 42.", "42-17: 2-7=5,3-1=2: 25.", "Answer: 25")
EngineOf = Callable[[str, Callable[["Asked"], str]], Any]
Found = Callable[..., Any]
LIMITS = {"max_tokens": 1000}  # the server's model has a context of 1024 tokens


@pytest.fixture
def found(server: FakeServer) -> Found:
    """Return the finding for a configuration with one model, whose table has ``keys`` besides the required ones."""

    async def look(name: str, limits: dict[str, int] | None = None, **keys: Any) -> Finding:
        given = {"url": server.url, "model": "m", "prompt": "plain", "retries": 0, "timeout": 20}
        table = {"backend": "http", **given, **keys}
        tree = {"models": {name: table}, "limits": limits or LIMITS}
        [finding] = [finding async for finding in examine(parse(tree, "test"))]
        return finding

    return look


def of(finding: Finding, name: str) -> Check:
    """Return the only check of this name."""
    [check] = [check for check in finding.checks if check.name == name]
    return check


def rest(asked: Asked) -> str:
    """Return what the model would write after the prompt."""
    done = asked.body["prompt"].count("\n\n")
    return "\n\n".join(STEPS[done:])


async def test_a_model_that_does_all_is_told_with_its_context_and_what_it_did(
    server: FakeServer, engine: EngineOf, found: Found
) -> None:
    server.replies(engine("llama.cpp", rest))
    finding = await found("draft")
    assert (finding.model, finding.state) == ("draft", "ok")
    assert of(finding, "model").text == f"m at {server.url}, a context of 1024 tokens"
    assert of(finding, "step").text.startswith("wrote a step of 25 tokens in ")
    assert of(finding, "step").text.endswith(r"stopped at the separator '\n\n'")
    assert of(finding, "seeds").text == "honours seeds"
    assert of(finding, "end").text == "ended its answer with step 3"
    assert of(finding, "cache").text == "took 10 of 20 prompt tokens of a repeated request from its prefix cache"
    assert of(finding, "burst").text.startswith("16 concurrent requests: ")
    assert of(finding, "clock").text == "the server's clock agrees with this machine's"


async def test_a_context_below_the_limits_is_a_warning_that_names_the_keys(
    server: FakeServer, engine: EngineOf, scored: Callable[..., Any], found: Found
) -> None:
    note = "limits.max_tokens = 1024 cannot be reached: the context of models.{} holds 1024 tokens with the question, "
    server.replies(engine("llama.cpp", rest))
    draft = of(await found("draft", {"max_tokens": 1024}), "limits")
    assert draft.state == "warning"
    assert draft.text.startswith(note.format("draft") + "and a problem ends where it is full. Lower limits.max_tokens")
    server.replies(scored(2.0), scored(-2.0))
    prm = of(await found("prm", {"max_tokens": 1024}), "limits")
    assert prm.text.startswith(note.format("prm") + "and a problem fails where a step does not fit. Lower limits.max")


async def test_a_model_that_never_stops_is_a_warning_that_names_its_prompt(
    server: FakeServer, answer: Callable[..., Any], found: Found
) -> None:
    server.replies(answer("and so on", finish_reason="length", matched_stop=None))
    finding = await found("draft")
    assert of(finding, "step").state == "warning"
    assert ", and did not stop: " in of(finding, "step").text
    assert "prompt = 'plain'" in of(finding, "step").text
    assert "(step 1 did not stop)" in of(finding, "end").text


async def test_an_answer_that_never_ends_is_a_warning(
    server: FakeServer, answer: Callable[..., Any], found: Found
) -> None:
    server.replies(answer(STEPS[0]))
    finding = await found("draft")
    assert of(finding, "end").state == "warning"
    assert "did not end its answer (not within 16 steps): " in of(finding, "end").text


async def test_a_server_that_ignores_seeds_is_found_out(
    server: FakeServer, answer: Callable[..., Any], found: Found
) -> None:
    server.replies(*(answer(text) for text in (STEPS[0], "one", "two", "three")))
    assert "ignores seeds" in of(await found("target"), "seeds").text


async def test_a_server_that_names_no_stop_is_found_out(server: FakeServer, engine: EngineOf, found: Found) -> None:
    server.replies(engine("plain", rest))
    assert "does not report what stopped a step" in of(await found("draft"), "stops").text


async def test_a_cache_that_is_not_reported_is_a_warning_with_the_option_to_set(
    server: FakeServer, answer: Callable[..., Any], found: Found
) -> None:
    server.replies(answer(STEPS[0]))
    check = of(await found("draft"), "cache")
    assert check.state == "warning"
    assert "--enable-cache-report" in check.text


@pytest.mark.parametrize(
    ("after", "state", "told"),
    [(0, "ok", "ends a request when it is cancelled"), (1, "warning", "continues a cancelled request")],
)
async def test_a_server_that_goes_on_with_a_cancelled_request_is_found_out(
    after: int, state: str, told: str, server: FakeServer, engine: EngineOf, found: Found
) -> None:
    written = engine("llama.cpp", rest)
    looks: list[int] = []

    def about(asked: Asked) -> Any:
        looks.append(1)
        running = 0 if len(looks) < 3 else after
        return {"body": {"loads": [{"num_waiting_reqs": 0, "num_running_reqs": running}]}}

    server.about = lambda asked: about(asked) if asked.path == "/v1/loads" else {"status": 404}
    server.replies(lambda asked: {"fault": "silent"} if "\x1e" in asked.body["stop"][0] else written(asked))
    check = of(await found("draft"), "cancel")
    assert (check.state, check.text[: len(told)]) == (state, told)


async def test_a_clock_that_is_off_is_a_warning(server: FakeServer, engine: EngineOf, found: Found) -> None:
    server.models = {**server.models, "headers": {"date": "Sun, 22 Nov 2026 10:00:00 GMT"}}
    server.replies(engine("llama.cpp", rest))
    check = of(await found("draft"), "clock")
    assert check.state == "warning"
    assert "set both by NTP" in check.text


async def test_a_reward_server_that_is_to_write_is_refused_before_it_is_asked_to(
    server: FakeServer, found: Found
) -> None:
    server.about = lambda asked: {"body": {"is_generation": False}} if asked.path == "/model_info" else {"status": 404}
    finding = await found("draft")
    assert finding.state == "failed"
    assert "serves a reward model" in finding.text[-1]
    assert server.asked == server.trials == []


async def test_scores_are_shown_for_a_right_step_and_a_wrong_one(
    server: FakeServer, scored: Callable[..., Any], found: Found
) -> None:
    server.replies(scored(2.0), scored(-2.0))
    finding = await found("prm")
    assert finding.state == "ok"
    assert of(finding, "scores").text == "scored a right step 0.881 and a wrong one 0.119"


@pytest.mark.parametrize(
    ("name", "right", "wrong", "state"),
    [
        ("prm", 1.0, 1.0, "warning"),
        ("prm", -2.0, 2.0, "warning"),
        ("router", 1.0, 1.0, "warning"),
        ("router", -2.0, 2.0, "ok"),
    ],
)
async def test_scores_that_do_not_tell_steps_apart_or_the_wrong_way_round_are_a_warning(
    server: FakeServer,
    scored: Callable[..., Any],
    found: Found,
    name: str,
    right: float,
    wrong: float,
    state: str,
) -> None:
    server.replies(scored(right), scored(wrong))
    assert (await found(name)).state == state


async def test_a_model_that_the_server_does_not_have_has_failed_and_those_it_has_are_named(
    server: FakeServer, found: Found
) -> None:
    finding = await found("draft", model="another")
    assert finding.state == "failed"
    assert finding.text == (f"{server.url} does not serve 'another'; it serves: m",)


async def test_one_model_that_fails_does_not_hide_the_next(server: FakeServer, engine: EngineOf) -> None:
    server.replies(engine("llama.cpp", rest))
    table = {"backend": "http", "url": server.url, "model": "m", "prompt": "plain", "retries": 0}
    tree = {"models": {"draft": {**table, "model": "another"}, "target": table}, "limits": LIMITS}
    findings = [finding async for finding in examine(parse(tree, "test"))]
    assert [(finding.model, finding.state) for finding in findings] == [("draft", "failed"), ("target", "ok")]


async def test_template_and_separator_are_compared_with_the_tokenizers_own(
    server: FakeServer, engine: EngineOf, found: Found
) -> None:
    server.replies(engine("llama.cpp", rest))
    own = await found("draft", tokenizer="pocket:draft", prompt="Problem: {question}\nSolution:\n")
    assert (of(own, "template").state, of(own, "separator").state) == ("ok", "ok")
    other = await found("draft", tokenizer="pocket:draft", prompt="qwen2.5-math")
    assert of(other, "template").state == "warning"
    assert 'set prompt = "chat"' in of(other, "template").text


async def test_a_tokenizer_that_differs_between_draft_and_target_is_a_warning(
    server: FakeServer, engine: EngineOf, tmp_path: Any
) -> None:
    letters = {chr(code): code for code in range(128)}
    tokenizer: Any = Tokenizer(models.WordLevel(letters, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.save_pretrained(tmp_path)
    server.replies(engine("llama.cpp", rest))
    table = {"backend": "http", "url": server.url, "model": "m", "prompt": "plain", "retries": 0}
    pair = {"draft": {**table, "tokenizer": "pocket:draft"}, "target": {**table, "tokenizer": str(tmp_path)}}
    *_, finding = [finding async for finding in examine(parse({"models": pair, "limits": LIMITS}, "test"))]
    check = of(finding, "tokens")
    assert check.state == "warning"
    assert "keeps less of them" in check.text
