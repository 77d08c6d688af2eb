"""A causal model in process writes the same as transformers' own ``generate``, in any batch."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from arbiter.actors.supervision import services
from arbiter.backends.conversations import Tools, Turns
from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import Loaded, open_model
from arbiter.backends.prompts import PromptTemplate
from arbiter.protocols.errors import ContextTooLongError, ConversationError
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Step, Transcript, Turn, Usage

Requests = Callable[..., GenerationRequest]
Served = Callable[..., list[Any]]
Write = Callable[..., list[Any]]

TEMPLATE = PromptTemplate("Problem: {question}\nSolution:\n")
QUESTIONS = (
    "Compute 1+1.",
    "Compute (12+34)*5.",
    "Start with 7. Add 11. What is the result?",
    "Ann has 30 coins. Ann loses 12. How many coins does Ann have now?",
    "2",
    "Compute ((120-12)*3)mod25.",
    "Bob has 55 shells. A friend brings 20 more.",
    "Start with 99.",
)
SEPARATORS = ("\n\n", " ", "e", "1", ": ", ".", "an", "+")


@pytest.fixture(scope="module")
def loaded(writer: Path) -> Loaded:
    return open_model(str(writer), "generator", device="cpu")


@pytest.fixture(scope="module")
def write(loaded: Loaded, served: Served) -> Write:
    """Return the tiny model's answers. ``largest`` is the batch size."""

    def answers(requests: Sequence[GenerationRequest], largest: int = 8, model: Loaded = loaded) -> list[Any]:
        generator = InProcessGenerator(model, TEMPLATE, largest)
        return [without_reuse(made) for made in served(generator.generate, generator.engine.worker, requests)]

    return answers


def without_reuse(made: Any) -> Any:
    """Return an answer without the count of reused tokens, which depends on what was read before."""
    if not isinstance(made, Generation):
        return made
    return msgspec.structs.replace(made, usage=msgspec.structs.replace(made.usage, cached_tokens=0))


def reference(folder: Path, tokenizer: PreTrainedTokenizerFast, request: GenerationRequest) -> Generation:
    """Return the step of transformers' own greedy ``generate``, cut at the separator here."""
    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = tokenizer(TEMPLATE.render(request.transcript, request.separator), return_tensors="pt")
    limits: dict[str, Any] = {"max_new_tokens": request.max_tokens, "do_sample": False}
    out: list[int] = model.generate(prompt["input_ids"], attention_mask=prompt["attention_mask"], **limits)[0].tolist()
    read = prompt["input_ids"].shape[1]
    for count in range(1, len(out) - read + 1):
        text = str(tokenizer.decode(out[read : read + count], skip_special_tokens=True))
        if request.separator in text:
            return Generation(text.partition(request.separator)[0], "separator", Usage(read, count))
    text = str(tokenizer.decode(out[read:], skip_special_tokens=True))
    ended = out[-1] == model.generation_config.eos_token_id
    return Generation(text, "end" if ended else "limit", Usage(read, len(out) - read))


@pytest.mark.slow
def test_greedy_steps_are_those_of_transformers_cut_at_the_separator_or_the_limit(
    writer: Path, tokenizer: PreTrainedTokenizerFast, write: Write, generation: Requests
) -> None:
    pairs = zip(QUESTIONS, SEPARATORS, strict=True)
    requests = [generation(question, separator=separator) for question, separator in pairs]
    expected = [reference(writer, tokenizer, request) for request in requests]
    assert {answer.stop_reason for answer in expected} == {"separator", "limit"}
    assert len({answer.text for answer in expected}) == len(expected)
    assert write(requests) == expected


def test_a_step_ends_at_a_token_that_the_generation_settings_name(
    tokenizer: PreTrainedTokenizerFast, writer: Path, write: Write, generation: Requests, tmp_path: Path
) -> None:
    [plain] = write([generation(max_tokens=8)])
    tokens = tokenizer(plain.text)["input_ids"]
    folder = shutil.copytree(writer, tmp_path / "chatty")
    settings = {"eos_token_id": [tokenizer.eos_token_id, *tokens]}
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    chatty = open_model(str(folder), "generator", device="cpu")
    [answer] = write([generation(max_tokens=8)], model=chatty)
    assert (answer.text, answer.stop_reason, answer.usage.completion_tokens) == ("", "end", 1)


def test_a_step_ends_at_the_tokenizers_own_end(
    writer: Path, tokenizer: PreTrainedTokenizerFast, write: Write, generation: Requests, tmp_path: Path
) -> None:
    [plain] = write([generation(max_tokens=6)])
    folder = shutil.copytree(writer, tmp_path / "ending")
    last: int = tokenizer(plain.text)["input_ids"][-1]
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["eos_token"] = tokenizer.convert_ids_to_tokens(last)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    ending = open_model(str(folder), "generator", device="cpu")
    [answer] = write([generation(max_tokens=6)], model=ending)
    assert answer.stop_reason == "end"
    assert plain.text.startswith(answer.text)
    assert answer.text != plain.text


def test_a_batch_of_one_and_a_batch_of_eight_write_the_same(write: Write, generation: Requests) -> None:
    requests = [generation(question, max_tokens=20) for question in QUESTIONS]
    assert write(requests, largest=1) == write(requests, largest=8)


def test_rows_that_leave_early_change_nothing_for_the_rest(write: Write, generation: Requests) -> None:
    lengths = (1, 2, 2, 3, 5, 20, 21, 30)
    pairs = zip(QUESTIONS, lengths, strict=True)
    requests = [generation(question, max_tokens=n, separator="###") for question, n in pairs]
    together = write(requests)
    assert together == [answer for request in requests for answer in write([request])]
    assert [answer.usage.completion_tokens for answer in together] == list(lengths)


def test_the_token_limit_of_a_request_ends_its_step(write: Write, generation: Requests) -> None:
    [answer] = write([generation(max_tokens=3)])
    assert (answer.stop_reason, answer.usage.completion_tokens) == ("limit", 3)


def test_usage_counts_the_tokens_of_the_prompt(
    tokenizer: PreTrainedTokenizerFast, write: Write, generation: Requests
) -> None:
    context = Transcript("Compute 1+1.", (Step("1+1: 1+1=2: 2.", "draft"),))
    [answer] = write([generation(transcript=context, max_tokens=1)])
    read = len(tokenizer(TEMPLATE.render(context, "\n\n"))["input_ids"])
    assert answer.usage == Usage(prompt_tokens=read, completion_tokens=1)


def test_a_next_step_reads_only_what_was_not_read_before(
    loaded: Loaded, tokenizer: PreTrainedTokenizerFast, write: Write, generation: Requests, served: Served
) -> None:
    generator = InProcessGenerator(loaded, TEMPLATE, 4)
    [first] = served(generator.generate, generator.engine.worker, [generation(max_tokens=6, separator="###")])
    context = Transcript("Compute 1+1.", (Step(first.text, "draft"),))
    later = generation(transcript=context, max_tokens=6, separator="###")
    [second] = served(generator.generate, generator.engine.worker, [later])
    assert first.usage.cached_tokens == 0
    assert first.usage.prompt_tokens <= second.usage.cached_tokens < second.usage.prompt_tokens
    assert [without_reuse(second)] == write([later])


def test_the_context_of_the_model_ends_a_step(loaded: Loaded, write: Write, generation: Requests) -> None:
    question = "1" * (loaded.model.context - 2 - len(loaded.texts.encode(TEMPLATE.render(Transcript(""), ""))))
    [answer] = write([generation(question, max_tokens=50, separator="###")])
    assert answer.stop_reason == "limit"
    assert answer.usage == Usage(prompt_tokens=loaded.model.context - 2, completion_tokens=2)


def test_a_prompt_longer_than_the_context_fails_alone(loaded: Loaded, write: Write, generation: Requests) -> None:
    fitting = [generation(question) for question in QUESTIONS[:2]]
    first, too_long, last = write([fitting[0], generation("1" * loaded.model.context), fitting[1]])
    assert isinstance(too_long, ContextTooLongError)
    assert loaded.name in str(too_long)
    assert [first, last] == write(fitting)


def test_a_prompt_that_fills_the_context_leaves_no_room(loaded: Loaded, write: Write, generation: Requests) -> None:
    question = "1" * (loaded.model.context - len(loaded.texts.encode(TEMPLATE.render(Transcript(""), ""))))
    [error] = write([generation(question)])
    assert isinstance(error, ContextTooLongError)


def test_a_later_step_without_room_is_empty_and_ends_by_its_limit(
    loaded: Loaded, write: Write, generation: Requests
) -> None:
    full = Step("1" * loaded.model.context, "draft")
    [answer] = write([generation(transcript=Transcript(QUESTIONS[0], (full,)))])
    assert (answer.text, answer.stop_reason) == ("", "limit")


def test_sampled_steps_depend_on_their_seed_and_not_on_their_company(write: Write, generation: Requests) -> None:
    requests = [generation(question, temperature=1.0, seed=n) for n, question in enumerate(QUESTIONS)]
    assert write(requests) == write(requests, largest=1) == list(reversed(write(requests[::-1])))


def test_the_same_request_with_the_same_seed_has_the_same_answer(write: Write, generation: Requests) -> None:
    first, second = write([generation(temperature=1.0, seed=3), generation(temperature=1.0, seed=3, sample=1)])
    assert first == second


def test_different_seeds_sample_different_steps(write: Write, generation: Requests) -> None:
    answers = write([generation(temperature=1.0, seed=seed) for seed in range(8)])
    assert len({answer.text for answer in answers}) > 4


def test_at_temperature_zero_the_seed_is_not_used(write: Write, generation: Requests) -> None:
    first, second = write([generation(seed=1), generation(seed=2)])
    assert first == second


def test_a_tiny_top_p_leaves_the_first_choice_alone(write: Write, generation: Requests) -> None:
    requests = [generation(question, temperature=1.0, top_p=1e-9, seed=7) for question in QUESTIONS]
    assert write(requests) == write([generation(question) for question in QUESTIONS])


def test_cancelling_a_request_leaves_the_answers_of_its_batch_unchanged(
    loaded: Loaded, write: Write, generation: Requests
) -> None:
    generator = InProcessGenerator(loaded, TEMPLATE, 4)
    others = [generation(question, max_tokens=30) for question in QUESTIONS[:2]]
    answers: dict[str, Generation] = {}

    async def ask(request: GenerationRequest) -> None:
        answers[request.transcript.question] = await generator.generate(request)

    async def short(request: GenerationRequest, scope: anyio.CancelScope) -> None:
        await generator.generate(request)
        scope.cancel()

    async def long(scope: anyio.CancelScope) -> None:
        with scope:
            await generator.generate(generation(QUESTIONS[2], max_tokens=60))

    async def body() -> None:
        async with services() as service, anyio.create_task_group() as asking:
            scope = anyio.CancelScope()
            asking.start_soon(long, scope)
            asking.start_soon(short, generation(QUESTIONS[3], max_tokens=1), scope)
            for request in others:
                asking.start_soon(ask, request)
            await anyio.wait_all_tasks_blocked()
            await service.start(generator.engine.worker.run)

    anyio.run(body)
    assert [without_reuse(answers[request.transcript.question]) for request in others] == write(others)


def test_a_conversation_that_the_template_refuses_fails_alone(
    loaded: Loaded, served: Served, generation: Requests
) -> None:
    class Refusing:
        def head(
            self, turns: Turns, question: str, after: Turns = (), tools: Tools = (), is_instructed: bool = False
        ) -> str:
            raise ConversationError("roles must alternate")

    refusing = PromptTemplate(TEMPLATE.before_steps, conversation=Refusing())
    generator = InProcessGenerator(loaded, refusing, 8)
    plain = [generation(question, max_tokens=4) for question in QUESTIONS[:3]]
    asked = generation(max_tokens=4)
    refused = msgspec.structs.replace(asked, transcript=Transcript("q", turns=(Turn("user", "before"),)))
    answers = served(generator.generate, generator.engine.worker, [plain[0], refused, *plain[1:]])
    assert isinstance(answers[1], ConversationError)
    assert [isinstance(answer, Generation) for answer in answers] == [True, False, True, True]


def test_a_step_whose_text_is_passed_on_is_the_same_and_its_texts_grow_to_it(
    loaded: Loaded, served: Served, generation: Requests
) -> None:
    requests = [
        generation(question, separator=separator, max_tokens=20)
        for question, separator in zip(QUESTIONS, SEPARATORS, strict=True)
    ]
    generator, said = InProcessGenerator(loaded, TEMPLATE, 8), dict[str, list[str]]()

    async def stream(request: GenerationRequest) -> Generation:
        return await generator.stream(request, said.setdefault(request.transcript.question, []).append)

    streamed = served(stream, generator.engine.worker, requests)
    silent = InProcessGenerator(loaded, TEMPLATE, 8)
    assert [without_reuse(one) for one in streamed] == [
        without_reuse(one) for one in served(silent.generate, silent.engine.worker, requests)
    ]
    for request, step in zip(requests, streamed, strict=True):
        texts = said[request.transcript.question]
        assert all(step.text.startswith(text) for text in texts)
        assert texts == sorted(texts, key=len)
    longest = max(streamed, key=lambda step: len(step.text))
    assert len({*said[requests[streamed.index(longest)].transcript.question]}) > 3
