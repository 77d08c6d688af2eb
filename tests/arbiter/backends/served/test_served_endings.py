"""The stop reason of an answer, for every engine."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.completion_answers import CompletionAnswer, EndSigns, ending_of
from arbiter.backends.served.generator import ServedGenerator
from arbiter.backends.served.transport import Address
from arbiter.protocols.errors import BackendError, ConfigError
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

END_TOKEN = 151645
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


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a tokenizer whose end token is that of the engines."""
    inner: Any = Tokenizer(models.WordLevel({"?": 0, "<end>": END_TOKEN}, "?"))
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")  # noqa: S106 - no password
    folder = tmp_path_factory.mktemp("tokenizer")
    fast.save_pretrained(folder)
    return str(folder)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", NAMING)
@pytest.mark.parametrize("transcript", [Transcript("1+1?"), AFTER_FIRST])
@pytest.mark.slow
async def test_a_server_that_names_what_stopped_it_is_asked_once(
    kind: str, transcript: Transcript, server: FakeServer, step: StepOf, engine: EngineOf, tokenizer: str
) -> None:
    server.replies(engine(kind, rest))
    of_table = {"engine": "vllm"} if kind == "vllm" else {"tokenizer": tokenizer}
    found = await step(of_table, transcript=transcript)
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
        ({"prompt_tokens": 7.0, "completion_tokens": "3"}, Usage(7, 3)),
        ({"prompt_tokens": "7.0", "completion_tokens": 3.0}, Usage(7, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": "6"}}, Usage(7, 3, 6)),
    ],
)
@pytest.mark.slow
async def test_tokens_that_the_server_does_not_report_are_zero_but_for_those_of_the_text(
    usage: Any, counted: Usage, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies({"body": {**answer("five tokens of text")["body"], "usage": usage}})
    written = counted.completion_tokens or 5
    assert (await step()).usage == msgspec.structs.replace(counted, completion_tokens=written)


@pytest.mark.asyncio
@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}])
@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"finish_reason": "length"}, 50),  # what was requested
        ({"logprobs": {"tokens": ["a", " st", "ep"], "token_logprobs": [-0.1, -0.2, None]}}, 3),
        ({"text": "äö step"}, 3),  # one for four bytes
        ({"text": ""}, 0),
    ],
)
@pytest.mark.slow
async def test_a_text_that_the_server_did_not_count_still_counts_against_the_limits(
    usage: Any, fields: dict[str, Any], tokens: int, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies({"body": {**answer(**fields)["body"], "usage": usage}})
    assert (await step()).usage == Usage(0, tokens)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("usage", "named"),
    [
        ({"completion_tokens": -50}, "completion_tokens = -50, where only a number from 0 to 50 is possible"),
        ({"completion_tokens": 10**15}, "completion_tokens = 1000000000000000, where"),
        ({"completion_tokens": 51}, "completion_tokens = 51, where"),
        ({"completion_tokens": 2.5}, "completion_tokens = 2.5, where"),
        ({"completion_tokens": "many"}, "completion_tokens = 'many', where"),
        ({"completion_tokens": "nan"}, "completion_tokens = 'nan', where"),
        ({"prompt_tokens": -1}, "prompt_tokens = -1, where"),
        ({"prompt_tokens": 10**15}, "prompt_tokens = 1000000000000000, where"),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 8}}, "cached_tokens = 8, where"),
    ],
)
@pytest.mark.slow
async def test_a_count_that_cannot_be_is_an_error_and_never_believed(
    usage: Any, named: str, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies({"body": {**answer()["body"], "usage": usage}})
    with pytest.raises(BackendError, match=re.escape(f"{server.url}/v1/completions answered with usage.{named}")):
        await step()


@pytest.mark.asyncio
@pytest.mark.parametrize("tokens", [-1, "nan", 10.5])
async def test_a_count_of_a_score_that_cannot_be_is_an_error(tokens: Any, server: FakeServer, score: StepOf) -> None:
    one = {"embedding": [0.0], "meta_info": {"prompt_tokens": tokens}}
    server.replies({"body": {**one, "data": [one], "usage": {"prompt_tokens": tokens}}})
    with pytest.raises(BackendError, match=r"answered with usage\.prompt_tokens = "):
        await score()


@pytest.mark.asyncio
async def test_an_answer_may_have_no_usage_at_all(server: FakeServer, step: StepOf, answer: Answer) -> None:
    server.replies({"body": {"choices": answer("a step")["body"]["choices"]}})
    assert await step() == Generation(text="a step", stop_reason="separator", usage=Usage(0, 2))


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", ["abort", "error", "content_filter", "model_error", "tool_calls", "", None])
@pytest.mark.slow
async def test_an_answer_that_the_server_gave_up_half_way_is_no_step(
    reason: str | None, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer("half a st", finish_reason=reason))
    with pytest.raises(BackendError, match=rf"did not complete its answer \({reason or 'no reason'}\)"):
        await step()


@pytest.mark.asyncio
@pytest.mark.parametrize(("reason", "attempts"), [("model_error", 2), (None, 2), ("content_filter", 1)])
async def test_an_answer_that_was_broken_off_is_requested_again_unless_a_filter_broke_it_off(
    reason: str | None, attempts: int, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer("half a st", finish_reason=reason), answer("a step"))
    try:
        found = (await step({"retries": 1})).text
    except BackendError:
        found = None
    assert (found, len(server.asked)) == ("a step" if attempts == 2 else None, attempts)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        ("eos_token", "end"),
        ("end_turn", "end"),
        ("stop_sequence", "separator"),
        ("length", "limit"),
        ("max_tokens", "limit"),
        ("model_length", "limit"),
    ],
)
async def test_an_engines_own_reason_decides_without_a_second_request(
    reason: str, ending: str, server: FakeServer, step: StepOf
) -> None:
    server.replies({"body": {"choices": [{"text": "a step", "finish_reason": reason}]}})
    assert ((await step()).stop_reason, len(server.asked)) == (ending, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "named", [{"matched_stop": 271}, {"stop_reason": None}, {"stop_reason": 271}, {"matched_stop": [271]}, {}]
)
@pytest.mark.slow
async def test_only_a_known_end_token_ends_an_answer_and_anything_else_is_found_out(
    named: dict[str, Any], server: FakeServer, step: StepOf, engine: EngineOf, tokenizer: str
) -> None:
    """The server reports the token of a blank line, or has the field and never fills it."""

    def script(asked: Asked) -> Any:
        reply: Any = engine("plain", rest)(asked)
        reply["body"]["choices"][0].update(named)
        return reply

    server.replies(script)
    first = await step({"tokenizer": tokenizer})
    last = await step({"tokenizer": tokenizer}, transcript=AFTER_FIRST)
    assert [(first.text, first.stop_reason), (last.text, last.stop_reason)] == [
        ("First.", "separator"),
        ("Second.", "end"),
    ]


@pytest.mark.asyncio
async def test_a_tokenizer_that_is_named_and_cannot_be_read_is_an_error_of_its_table(
    server: FakeServer, step: StepOf, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"^models\.draft\.tokenizer: cannot read the tokenizer .*, or leave it out$"):
        await step({"tokenizer": str(tmp_path / "none")})
    assert server.asked == []


@pytest.mark.asyncio
async def test_a_model_folder_without_a_tokenizer_has_no_known_end_tokens(
    server: FakeServer, step: StepOf, engine: EngineOf, tmp_path: Path
) -> None:
    server.models = {"body": {"data": [{"id": str(tmp_path)}]}}
    server.replies(engine("sglang", rest))
    found = await step({"model": str(tmp_path)}, transcript=AFTER_FIRST)
    assert (found.stop_reason, len(server.asked)) == ("end", 2)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "choices",
    [
        [{"text": "other", "index": 1}, {"text": "a step", "index": 0}],
        [{"text": "a step", "index": 0}, {"text": "other", "index": 1}],
        [{"text": "a step"}],
    ],
)
async def test_of_several_choices_the_first_by_its_index_counts(
    choices: list[dict[str, Any]], server: FakeServer, step: StepOf
) -> None:
    more = {"finish_reason": "stop", "matched_stop": "\n\n"}
    server.replies({"body": {"choices": [choice | more for choice in choices]}})
    assert (await step()).text == "a step"


@pytest.mark.asyncio
async def test_of_several_scores_the_first_by_its_index_counts(server: FakeServer, score: StepOf) -> None:
    data = [{"embedding": [9.0], "index": 1}, {"embedding": [0.0], "index": 0}]
    server.replies({"body": {"data": data, "usage": {"prompt_tokens": 9}}})
    found: Any = await score({"scores": "embeddings"})
    assert found.value == 0.5


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "fields", "kept"),
    [
        ("42.\n", {"matched_stop": "\n\n"}, "42."),
        ("42.\n", {"finish_reason": "stop_sequence"}, "42."),
        ("42.\n", {"stop_reason": "\n\n"}, "42."),
        ("42.\n", {"finish_reason": "length"}, "42.\n"),
        ("\n", {"matched_stop": "\n\n"}, ""),
    ],
)
async def test_a_part_of_a_matched_separator_is_no_part_of_the_step(
    text: str, fields: dict[str, Any], kept: str, server: FakeServer, step: StepOf
) -> None:
    server.replies({"body": {"choices": [{"text": text, "finish_reason": "stop", **fields}]}})
    assert (await step()).text == kept


SEPARATORS = st.text("\n#a", min_size=1, max_size=3)
TEXTS = st.text("\n#ab", max_size=12)
NO_SIGNS = EndSigns()
REASONS = st.sampled_from(["stop", "length"])
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
    step, _ = ending_of(CompletionAnswer(text, reason, **names), separator, NO_SIGNS)
    assert separator not in step
    assert text.startswith(step)


@given(TEXTS, REASONS, NAMES, SEPARATORS)
def test_an_answer_with_a_separator_in_it_stopped_there_whatever_the_server_says(
    text: str, reason: str | None, names: dict[str, Any], separator: str
) -> None:
    _, ending = ending_of(CompletionAnswer(text + separator, reason, **names), separator, NO_SIGNS)
    assert ending == "separator"


@given(TEXTS, NAMES, SEPARATORS)
def test_an_answer_cut_by_its_limit_stopped_at_the_separator_only_if_it_holds_one(
    text: str, names: dict[str, Any], separator: str
) -> None:
    _, ending = ending_of(CompletionAnswer(text, "length", **names), separator, NO_SIGNS)
    assert ending == ("separator" if separator in text else "limit")


@given(TEXTS, NAMES, SEPARATORS, st.frozensets(st.integers()))
def test_an_answer_ends_only_at_a_known_token_or_at_an_empty_field_of_its_engine(
    text: str, names: dict[str, Any], separator: str, ends: frozenset[int]
) -> None:
    _, ending = ending_of(CompletionAnswer(text, "stop", **names), separator, EndSigns(ends))
    values: list[Any] = [value if isinstance(value, list) else [value] for value in names.values()]
    tokens = {token for value in values for token in value}
    assert ending != "end" or tokens & ends or names.get("stopping_word") == ""


class Scripted:
    """A transport without a network. The script of an engine answers."""

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.address = Address("http://scripted", timeout=1, retries=0, connections=1)
        self._answer = answer

    async def post(self, path: str, body: Mapping[str, Any], problem: str, hear: object = None) -> bytes:
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
