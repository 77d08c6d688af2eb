"""The stop reason of an answer, for every engine."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.generator import CompletionAnswer, ServedGenerator, ending_of
from arbiter.backends.served.transport import Address
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Step, Transcript, Usage

if TYPE_CHECKING:
    from conftest import Asked, FakeServer, Script

StepOf = Callable[..., Awaitable[Generation]]
Answer = Callable[..., dict[str, Any]]
EngineOf = Callable[[str, Callable[..., str]], "Script"]
Request = Callable[..., GenerationRequest]

NAMING = ["sglang", "vllm", "vllm with an end token", "llama.cpp"]
EVERY_ENGINE = [*NAMING, "plain", "untrimmed", "careless"]

PROMPT, ANSWER = "1+1?\n", "First.\n\nSecond."
AFTER_FIRST = Transcript("1+1?", (Step("First.", "draft"),))


def rest(asked: Asked) -> str:
    """Return what a model that writes ``ANSWER`` has left to write."""
    return (PROMPT + ANSWER).removeprefix(asked.body["prompt"])


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", EVERY_ENGINE)
@pytest.mark.slow
async def test_a_step_before_another_one_ends_at_the_separator_and_has_none(
    kind: str, server: FakeServer, step: StepOf, engine: EngineOf
) -> None:
    server.replies(engine(kind, rest))
    found = await step()
    assert (found.text, found.stop_reason) == ("First.", "separator")


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", EVERY_ENGINE)
@pytest.mark.slow
async def test_the_last_step_ends_the_answer(kind: str, server: FakeServer, step: StepOf, engine: EngineOf) -> None:
    server.replies(engine(kind, rest))
    found = await step(transcript=AFTER_FIRST)
    assert (found.text, found.stop_reason) == ("Second.", "end")


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", EVERY_ENGINE)
@pytest.mark.slow
async def test_a_step_cut_by_its_limit_says_so(kind: str, server: FakeServer, step: StepOf, engine: EngineOf) -> None:
    server.replies(engine(kind, rest))
    found = await step(max_tokens=3)
    assert (found.text, found.stop_reason, len(server.asked)) == ("Fir", "limit", 1)


@pytest.mark.asyncio
async def test_a_server_that_writes_on_over_several_separators_has_written_the_first_step(
    server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer("1\n\n2\n\n3\n\n4", finish_reason="length"))
    found = await step()
    assert (found.text, found.stop_reason, len(server.asked)) == ("1", "separator", 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", NAMING)
@pytest.mark.parametrize("transcript", [Transcript("1+1?"), AFTER_FIRST])
@pytest.mark.slow
async def test_a_server_that_names_what_stopped_it_is_asked_once(
    kind: str, transcript: Transcript, server: FakeServer, step: StepOf, engine: EngineOf
) -> None:
    server.replies(engine(kind, rest))
    found = await step(transcript=transcript)
    assert (len(server.asked), found.overhead) == (1, Usage())


@pytest.mark.asyncio
async def test_a_server_that_names_no_stop_is_asked_whether_it_would_write_on(
    server: FakeServer, step: StepOf, engine: EngineOf
) -> None:
    server.replies(engine("plain", rest))
    await step(temperature=0.7)
    assert server.asked[1].body == {"model": "m", "prompt": PROMPT + "First.", "max_tokens": 4, "temperature": 0}


@pytest.mark.asyncio
@pytest.mark.parametrize(("transcript", "more"), [(Transcript("1+1?"), 4), (AFTER_FIRST, 0)])
async def test_the_question_after_a_step_is_counted_beside_its_tokens(
    transcript: Transcript, more: int, server: FakeServer, step: StepOf, engine: EngineOf
) -> None:
    server.replies(engine("plain", rest))
    found = await step(transcript=transcript)
    asked = len(server.asked[0].body["prompt"])
    again = asked + len(found.text)
    assert found.usage.prompt_tokens == asked
    assert found.overhead == Usage(again, more, again // 2)


@pytest.mark.asyncio
async def test_tokens_are_the_servers_own(server: FakeServer, step: StepOf, engine: EngineOf) -> None:
    server.replies(engine("sglang", rest))
    assert (await step()).usage == Usage(len(PROMPT), len("First.\n\n"), len(PROMPT) // 2)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"prompt_tokens": 7, "completion_tokens": 3}, Usage(7, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": None}, Usage(7, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {}}, Usage(7, 3)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": None}}, Usage(7)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 6, "audio_tokens": 0}}, Usage(7, 0, 6)),
        ({"prompt_tokens": None, "completion_tokens": None}, Usage()),
    ],
)
@pytest.mark.slow
async def test_tokens_that_the_server_does_not_tell_are_not_counted(
    usage: Any, counted: Usage, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies({"body": {**answer()["body"], "usage": usage}})
    assert (await step()).usage == counted


@pytest.mark.asyncio
async def test_an_answer_may_have_no_usage_at_all(server: FakeServer, step: StepOf, answer: Answer) -> None:
    server.replies({"body": {"choices": answer("a step")["body"]["choices"]}})
    assert await step() == Generation(text="a step", stop_reason="separator", usage=Usage())


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", ["abort", "error", "content_filter"])
async def test_an_answer_that_the_server_gave_up_half_way_is_no_step(
    reason: str, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer("half a st", finish_reason=reason))
    with pytest.raises(BackendError, match=rf"did not complete its answer \({reason}\)"):
        await step()


SEPARATORS = st.text("\n#a", min_size=1, max_size=3)
TEXTS = st.text("\n#ab", max_size=12)
REASONS = st.sampled_from(["stop", "length", "eos_token", None])
NAMES = st.fixed_dictionaries(
    {},
    optional={
        "matched_stop": st.none() | st.integers() | TEXTS | st.lists(st.integers(), max_size=2),
        "stop_reason": st.none() | st.integers() | TEXTS,
        "stopping_word": TEXTS,
    },
)


@given(TEXTS, REASONS, NAMES, SEPARATORS)
def test_no_step_has_a_separator_and_every_step_begins_its_answer(
    text: str, reason: str | None, names: dict[str, Any], separator: str
) -> None:
    step, _ = ending_of(CompletionAnswer(text, reason, **names), separator)
    assert separator not in step
    assert text.startswith(step)


@given(TEXTS, REASONS, NAMES, SEPARATORS)
def test_an_answer_with_a_separator_in_it_stopped_there_whatever_the_server_says(
    text: str, reason: str | None, names: dict[str, Any], separator: str
) -> None:
    _, ending = ending_of(CompletionAnswer(text + separator, reason, **names), separator)
    assert ending == "separator"


@given(TEXTS, NAMES, SEPARATORS)
def test_an_answer_cut_by_its_limit_stopped_at_the_separator_only_if_it_holds_one(
    text: str, names: dict[str, Any], separator: str
) -> None:
    _, ending = ending_of(CompletionAnswer(text, "length", **names), separator)
    assert ending == ("separator" if separator in text else "limit")


@given(TEXTS, REASONS, NAMES, SEPARATORS)
def test_an_ending_is_unknown_only_where_nothing_is_named(
    text: str, reason: str | None, names: dict[str, Any], separator: str
) -> None:
    _, ending = ending_of(CompletionAnswer(text, reason, **names), separator)
    assert (ending is None) == (not names and separator not in text and reason != "length")


class Scripted:
    """A transport without a network. The script of an engine answers."""

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.address = Address("http://scripted", timeout=1, retries=0, connections=1)
        self._answer = answer

    async def post(self, path: str, body: Mapping[str, Any], problem: str) -> bytes:
        assert path == "/v1/completions"
        return json.dumps(self._answer(dict(body))["body"]).encode()

    async def get(self, path: str) -> bytes:
        raise NotImplementedError(path)


class Sent:
    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body


@given(whole=TEXTS, separator=SEPARATORS, kind=st.sampled_from(EVERY_ENGINE))
def test_step_after_step_every_engine_gives_the_whole_answer_cut_at_the_separators(
    whole: str, separator: str, kind: str, engine: EngineOf, generation: Request
) -> None:
    def rest(asked: Asked) -> str:
        return ("Q\n" + whole).removeprefix(asked.body["prompt"])

    script: Any = engine(kind, rest)
    generator = ServedGenerator(Scripted(lambda body: script(Sent(body))), "m", PromptTemplate("{question}\n"))
    steps: list[str] = []

    async def write() -> None:
        ending = "separator"
        while ending == "separator":
            transcript = Transcript("Q", tuple(Step(text, "draft") for text in steps))
            found = await generator.generate(generation(transcript=transcript, separator=separator))
            ending = found.stop_reason
            steps.append(found.text)
        assert ending == "end"

    anyio.run(write)
    assert steps == whole.split(separator)


@pytest.mark.asyncio
async def test_what_a_server_writes_behind_the_separator_is_not_the_steps_but_overhead(
    server: FakeServer, step: StepOf, engine: EngineOf
) -> None:
    server.replies(engine("careless", rest))
    found = await step()
    assert found.usage.completion_tokens == len("First.\n\n")
    assert found.overhead == Usage(completion_tokens=len("Second."))
