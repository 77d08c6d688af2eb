"""Steps of whole blocks: they are what the model writes, never end inside a block, and are one request to the ring."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.ring_setup import Models
from arbiter.backends.bounded_steps import BoundedSteps, with_boundary
from arbiter.backends.calling import CallingGenerator
from arbiter.backends.fences import open_fence
from arbiter.backends.full_context import full_context
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.backends.step_boundaries import OutsideBlocks
from arbiter.protocols.answer_tokens import WrittenToken
from arbiter.protocols.model_traits import CountsPrompts, KeepsKeysAndValues, KnowsContext, KVMemory
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, Proposal
from arbiter.protocols.records import PrefixMatch, Step, Transcript, Usage

BLOCK = "```python\na = 1\n\nb = 2\n\nc = 3\n```"
ANSWER = f"Here it is.\n\n{BLOCK}\n\nIt runs."

FENCES = OutsideBlocks(open_fence)

PIECES = st.sampled_from(
    ["\n", "\n\n", "\n\n\n", "```", "```python", "````", "~~~", "   ```", "- ```", "a", "b = 2", " ", "`", "."]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join)
SEPARATORS = st.sampled_from(["\n\n", "\n", ".", "a", "`", "```", "\n```"])


def a_request(**fields: object) -> GenerationRequest:
    """A request for the first step of the draft, with the fields that matter to a test."""
    plain = GenerationRequest("p", 0, 0, "draft", Transcript("q"), "\n\n", 1000, 0.0, 1.0, 7, "call")
    return msgspec.structs.replace(plain, **fields)


class Writer:
    """A model of one token per character that writes ``answer``, and reads proposals. It notes its requests."""

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self.requests: list[GenerationRequest] = []

    async def generate(self, request: GenerationRequest) -> Generation:
        self.requests.append(request)
        before = "".join(step.text + request.separator for step in request.transcript.steps)
        assert self._answer.startswith(before)
        rest, most = self._answer[len(before) :], request.max_tokens
        text, found, _ = rest.partition(request.separator)
        written = text + found
        if len(written) > most or (not found and len(written) == most):
            return self._with_match(request, Generation(rest[:most], "limit", Usage(len(before), most)))
        ending = "separator" if found else "end"
        return self._with_match(request, Generation(text, ending, Usage(len(before), len(written) + (not found), 2)))

    def _with_match(self, request: GenerationRequest, made: Generation) -> Generation:
        if request.proposal is None:
            return made
        proposed = request.proposal.text + (request.separator if request.proposal.stop_reason == "separator" else "")
        own = made.text + (request.separator if made.stop_reason == "separator" else "")
        pairs = enumerate(zip(proposed, own, strict=False))
        matched = next((at for at, (one, other) in pairs if one != other), min(len(proposed), len(own)))
        return msgspec.structs.replace(made, prefix_match=PrefixMatch(len(proposed), matched))


def written(model: object, request: GenerationRequest) -> Generation:
    assert isinstance(model, BoundedSteps)
    return asyncio.run(model.generate(request))


def steps_of(answer: str, separator: str, max_tokens: int = 1000) -> list[Generation]:
    """All steps of an answer, until one ends it."""
    model, transcript, steps = BoundedSteps(Writer(answer), FENCES), Transcript("q"), list[Generation]()
    while not steps or steps[-1].stop_reason == "separator":
        request = a_request(transcript=transcript, separator=separator, step=len(steps), max_tokens=max_tokens)
        steps.append(written(model, request))
        transcript = transcript.extended(Step(steps[-1].text, "draft"))
    return steps


@given(TEXTS, SEPARATORS)
def test_the_steps_joined_are_the_answer_and_none_ends_inside_a_block(answer: str, separator: str) -> None:
    steps = steps_of(answer, separator)
    assert separator.join(step.text for step in steps) == answer
    so_far = ""
    for step in steps[:-1]:
        so_far += step.text + separator
        assert not open_fence(so_far)
    assert sum(step.usage.completion_tokens for step in steps) == len(answer) + 1  # the end is a token, too


@given(TEXTS, SEPARATORS, st.integers(1, 20))
def test_a_step_that_reaches_its_limit_is_cut_there_and_ends_the_answer(
    answer: str, separator: str, max_tokens: int
) -> None:
    *before, last = steps_of(answer, separator, max_tokens)
    text = "".join(step.text + separator for step in before) + last.text
    assert answer.startswith(text)
    assert all(step.usage.completion_tokens <= max_tokens for step in (*before, last))
    assert last.stop_reason == "end" if text == answer and last.stop_reason != "limit" else "limit"
    if last.stop_reason == "limit":
        assert last.usage.completion_tokens == len(last.text) == max_tokens


@given(TEXTS, SEPARATORS)
def test_text_without_a_block_is_cut_as_without_whole_blocks(answer: str, separator: str) -> None:
    plain = answer.replace("`", "'").replace("~", "-")
    model = Writer(plain)
    request = a_request(separator=separator)
    assert written(BoundedSteps(model, FENCES), request) == asyncio.run(Writer(plain).generate(request))
    assert model.requests == [request]


def test_a_prompt_of_a_further_request_is_the_context_the_text_so_far_and_the_separator() -> None:
    model, template = Writer(ANSWER), PromptTemplate("{question}\n")
    first = Transcript("q", (Step("Here it is.", "target"),))
    made = written(BoundedSteps(model, FENCES), a_request(transcript=first))
    assert made.text == BLOCK
    assert [template.render(request.transcript, "\n\n") for request in model.requests] == [
        "q\nHere it is.\n\n",
        "q\nHere it is.\n\n```python\na = 1\n\n",
        "q\nHere it is.\n\n```python\na = 1\n\nb = 2\n\n",
    ]


def test_a_prompt_with_authors_names_the_author_of_a_block_once() -> None:
    model, template = Writer(ANSWER), PromptTemplate("{question}\n", annotate=True)
    first = Transcript("q", (Step("Here it is.", "target"),))
    written(BoundedSteps(model, FENCES), a_request(transcript=first))
    assert template.render(model.requests[-1].transcript, "\n\n") == (
        "q\nModel 1: Here it is.\n\nModel 0: ```python\na = 1\n\nb = 2\n\n"
    )


def test_the_usage_of_a_step_has_its_prompt_once_and_its_cost_has_what_was_read_again() -> None:
    model = Writer(BLOCK)
    made = written(BoundedSteps(model, FENCES), a_request())
    prompts = [0, len("```python\na = 1\n\n"), len("```python\na = 1\n\nb = 2\n\n")]
    assert made.usage == Usage(prompts[0], len(BLOCK) + 1, 2)
    assert made.usage + made.overhead == Usage(sum(prompts), len(BLOCK) + 1, 6)


def test_the_requests_of_a_step_share_its_tokens_and_have_seeds_of_their_own() -> None:
    model = Writer(BLOCK)
    written(BoundedSteps(model, FENCES), a_request(max_tokens=100))
    assert [request.max_tokens for request in model.requests] == [100, 83, 76]
    assert model.requests[0].seed == 7
    assert len({request.seed for request in model.requests}) == 3
    assert {(request.call, request.step) for request in model.requests} == {("call", 0)}


def test_a_model_that_counts_no_tokens_is_not_asked_for_ever() -> None:
    model = ScriptedGenerator(lambda request: "```" if not request.transcript.steps else "")
    made = written(BoundedSteps(model, FENCES), a_request(max_tokens=5))
    assert (made.stop_reason, model.calls) == ("limit", 5)


def test_a_step_whose_block_fills_the_context_ends_by_its_limit() -> None:
    def write(request: GenerationRequest) -> Generation:
        return Generation("```", "separator", Usage(1, 1)) if not request.transcript.steps else full_context(request)

    made = written(BoundedSteps(ScriptedGenerator(write), FENCES), a_request(confidence="mean"))
    assert (made.text, made.stop_reason, made.usage) == ("```\n\n", "limit", Usage(1, 1))


@given(TEXTS, TEXTS, SEPARATORS, st.integers(1, 40), st.sampled_from(["separator", "end", "limit"]))
def test_a_proposal_changes_no_step_and_each_request_gets_the_part_that_belongs_there(
    answer: str, proposed: str, separator: str, max_tokens: int, ending: str
) -> None:
    proposal = Proposal(answer[: len(answer) // 2] + proposed, "end")
    proposal = msgspec.structs.replace(proposal, stop_reason=ending)
    request = a_request(separator=separator, max_tokens=max_tokens)
    model = Writer(answer)
    plain = written(BoundedSteps(Writer(answer), FENCES), request)
    made = written(BoundedSteps(model, FENCES), msgspec.structs.replace(request, proposal=proposal))
    assert msgspec.structs.replace(made, prefix_match=None) == plain
    shown, so_far = [one.proposal for one in model.requests], ""
    for one in (one for one in shown if one is not None):
        assert separator not in one.text
        so_far += one.text + separator
    assert (proposal.text + separator).startswith(so_far)  # the parts follow each other from the beginning
    assert None not in shown[: sum(one is not None for one in shown)]  # and none follows a part that was not kept
    assert made.prefix_match is not None


def test_a_whole_proposed_block_is_kept_whole() -> None:
    model = Writer(ANSWER)
    first = Transcript("q", (Step("Here it is.", "draft"),))
    made = written(BoundedSteps(model, FENCES), a_request(transcript=first, proposal=Proposal(BLOCK, "separator")))
    size = len(BLOCK) + 2
    assert made.prefix_match == PrefixMatch(size, size)
    assert made.usage.completion_tokens == size
    assert [request.proposal for request in model.requests] == [
        Proposal("```python\na = 1", "separator"),
        Proposal("b = 2", "separator"),
        Proposal("c = 3\n```", "separator"),
    ]


def test_after_a_part_that_was_not_kept_nothing_is_proposed() -> None:
    model = Writer(BLOCK)
    made = written(BoundedSteps(model, FENCES), a_request(proposal=Proposal(BLOCK.replace("a = 1", "a = 2"), "end")))
    assert [request.proposal is None for request in model.requests] == [False, True, True]
    assert made.prefix_match == PrefixMatch(17, len("```python\na = "))


@pytest.mark.parametrize(
    ("metric", "sure", "confidence"),
    [
        ("mean", [0.5, 0.25, 1.0], (0.5**1 * 0.25**2 * 1.0**3) ** (1 / 6)),
        ("first", [0.5, 0.25, 1.0], 0.5),
        ("mean", [None, None, None], None),
        ("mean", [0.5, 2.0, 1.0], 2.0),  # the ring refuses it
    ],
)
def test_the_confidence_in_a_step_is_that_over_its_tokens_or_at_its_first(
    metric: str, sure: list[float | None], confidence: float | None
) -> None:
    def write(request: GenerationRequest) -> Generation:
        part = request.transcript.steps[0].text.count("x") if request.transcript.steps else 0
        text = ["```\nx", "x", "```"][part]
        return Generation(text, "separator", Usage(1, part + 1), confidence=sure[part])

    made = written(BoundedSteps(ScriptedGenerator(write), FENCES), a_request(confidence=metric))
    assert made.text == "```\nx\n\nx\n\n```"
    assert made.confidence == (None if confidence is None else pytest.approx(confidence))


def test_parts_without_tokens_count_nothing_unless_all_are_without() -> None:
    def write(tokens: int) -> Callable[[GenerationRequest], Generation]:
        def answer(request: GenerationRequest) -> Generation:
            if request.transcript.steps:
                return Generation("```", "end", Usage(1, 0), confidence=1.0)
            return Generation("```", "separator", Usage(1, tokens), confidence=0.25)

        return answer

    for tokens in (0, 3):
        made = written(BoundedSteps(ScriptedGenerator(write(tokens)), FENCES), a_request(confidence="mean"))
        assert made.confidence == pytest.approx(0.25)


def test_seconds_and_freshness_are_those_of_all_requests() -> None:
    def write(request: GenerationRequest) -> Generation:
        if request.transcript.steps:
            return Generation("```", "end", Usage(), seconds=2.0, fresh=True)
        return Generation("```", "separator", Usage(), seconds=1.0, fresh=request.seed == 1)

    made = [written(BoundedSteps(ScriptedGenerator(write), FENCES), a_request(seed=seed)) for seed in (0, 1)]
    assert [(one.seconds, one.fresh) for one in made] == [(3.0, False), (3.0, True)]


class Knowing(Writer):
    """A model that knows its context, counts prompts and keeps keys and values."""

    context = 512
    kv_memory = KVMemory(1, 2)

    def prompt_tokens(self, transcript: Transcript, separator: str) -> int:
        return len(transcript.question + separator)


def test_what_a_model_knows_is_known_of_it_with_whole_blocks() -> None:
    knowing, plain = BoundedSteps(Knowing(""), FENCES), BoundedSteps(Writer(""), FENCES)
    for model in (knowing, plain):
        assert isinstance(model, KnowsContext)
        assert isinstance(model, CountsPrompts)
        assert isinstance(model, KeepsKeysAndValues)
    question = Transcript("abc")
    assert (knowing.context, knowing.kv_memory, knowing.prompt_tokens(question, "\n")) == (512, KVMemory(1, 2), 4)
    assert (plain.context, plain.kv_memory, plain.prompt_tokens(question, "\n")) == (None, None, None)


def test_the_models_that_write_are_wrapped_and_a_handle_of_two_names_stays_one() -> None:
    handle = ModelHandle(Writer(""), in_flight=3)
    models = with_boundary(Models(target=handle, targets={"small": handle}), FENCES)
    assert models.draft is None
    assert models.target is models.targets["small"]
    assert models.target is not None
    assert isinstance(models.target.port, BoundedSteps)
    assert models.target.in_flight == 3


def test_a_model_that_cannot_be_offered_tools_still_says_so() -> None:
    refusing = CallingGenerator(Writer(""), None, "set prompt")
    assert BoundedSteps(refusing, FENCES).without_tools == "set prompt"
    assert BoundedSteps(Writer(""), FENCES).without_tools is None


class SpeakingWriter(Writer):
    """A ``Writer`` that also says the beginnings of its parts that have the ``lengths``."""

    def __init__(self, answer: str, lengths: list[int]) -> None:
        super().__init__(answer)
        self._lengths = lengths

    async def stream(self, request: GenerationRequest, say: Callable[[str], None]) -> Generation:
        made = await self.generate(request)
        for length in self._lengths:
            say(made.text[:length])
        return made


@given(TEXTS, SEPARATORS, st.lists(st.integers(0, 8), max_size=6))
def test_what_is_said_of_a_step_of_whole_blocks_is_a_beginning_of_it(
    answer: str, separator: str, lengths: list[int]
) -> None:
    said: list[str] = []
    model, request = BoundedSteps(SpeakingWriter(answer, lengths), FENCES), a_request(separator=separator)
    step = asyncio.run(model.stream(request, said.append))
    assert step == written(model, request)
    assert all(step.text.startswith(text) for text in said)
    assert len(said) >= len(lengths)


@pytest.mark.parametrize("most", [1000, len("```python\na = 1\n\n")])
def test_the_tokens_of_a_step_are_those_of_all_its_parts(most: int) -> None:
    class Tokens:
        async def generate(self, request: GenerationRequest) -> Generation:
            made = await Writer(f"{BLOCK}\n\nIt runs.").generate(request)
            ended = request.separator if made.stop_reason == "separator" else ""
            return msgspec.structs.replace(made, tokens=tuple(WrittenToken(one, -0.5) for one in made.text + ended))

    step = written(BoundedSteps(Tokens(), FENCES), a_request(top_logprobs=0, max_tokens=most))
    ended = "\n\n" if step.stop_reason == "separator" else ""
    assert step.tokens is not None
    assert "".join(token.text for token in step.tokens) == step.text + ended
    assert (step.text == BLOCK) == (most == 1000)


def test_a_step_of_which_a_part_has_no_tokens_has_none() -> None:
    assert written(BoundedSteps(Writer(f"{BLOCK}\n\nIt runs."), FENCES), a_request()).tokens is None
