"""A checked step equals the step that the model writes without a proposal, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.config.model_tables import Engine
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal
from arbiter.protocols.records import PrefixMatch, Step, StopReason, Transcript, Usage

if TYPE_CHECKING:
    from conftest import Next, Target, Tokenizer

Targets = Callable[..., "Target"]
Request = Callable[..., GenerationRequest]

CONTEXT = Transcript("b")
END, ALSO, A, B, LINE, LINES, A_LINE, LINE_B, AB, BLANK = range(10)
ENGINES: list[Engine] = ["sglang", "vllm"]
ENDINGS: list[StopReason] = ["separator", "end", "limit"]
SEPARATORS = ["\n\n", "\n", "b", "a\n", "ab", " ", "\n\n\n", "aa"]
TEXT = st.lists(st.sampled_from(["a", "b", "\n", " ", "ab", "<end>", "<also>"]), max_size=6).map("".join)


@pytest.fixture(scope="module")
def asks(generation: Request) -> Request:
    def build(**fields: Any) -> GenerationRequest:
        return generation(**{"author": "target", "transcript": CONTEXT, **fields})

    return build


def step_of(made: Generation) -> tuple[str, StopReason, int, int]:
    return made.text, made.stop_reason, made.usage.prompt_tokens, made.usage.completion_tokens


@given(data=st.data(), seed=st.integers(0, 10**6), separator=st.sampled_from(SEPARATORS), limit=st.integers(1, 14))
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.slow
def test_a_proposal_of_any_kind_changes_nothing_of_a_step(
    engine: Engine,
    data: st.DataObject,
    seed: int,
    separator: str,
    limit: int,
    target: Targets,
    models: Callable[[int], Next],
    asks: Request,
) -> None:
    """Random models and proposals: the model's own step, its beginning, and steps with text added after or between."""
    question, before = data.draw(TEXT.filter(bool)), data.draw(st.none() | TEXT)
    transcript = Transcript(question, () if before is None else (Step(before, "draft"),))
    request = asks(transcript=transcript, separator=separator, max_tokens=limit)
    there = target(model=models(seed), engine=engine)
    there.server.penalty = data.draw(st.sampled_from([1.0, 1.1]))
    own = there.write(request)
    cut = data.draw(st.integers(0, len(own.text)))
    wrong, rest = data.draw(TEXT), data.draw(st.sampled_from(["", own.text[cut:]]))
    proposal = Proposal(own.text[:cut] + wrong + rest, data.draw(st.sampled_from(ENDINGS)))
    made = there.write(request, proposal)
    assert step_of(made) == step_of(own)
    if made.prefix_match is not None:
        assert made.prefix_match.matched <= min(made.prefix_match.proposed, made.usage.completion_tokens)
        assert made.prefix_match.proposed < limit


@pytest.mark.parametrize("engine", ENGINES)
def test_context_and_step_are_tokenised_apart_and_it_goes_on_from_tokens(
    engine: Engine, target: Targets, asks: Request
) -> None:
    """Joined, context and draft would begin with the token ``ab``, and a model that wrote ``a`` ``b`` too."""
    there = target([B, A, B, A, LINES], engine=engine)
    request = asks(transcript=Transcript("a"))
    own = there.write(request)
    assert step_of(there.write(request, Proposal("bb", "separator"))) == step_of(own) == ("baba", "separator", 1, 5)
    key = "input_ids" if engine == "sglang" else "prompt"
    assert [body[key] for _, body in there.server.asked] == [[A, B, B, LINES], [A, B, A]]


@pytest.mark.parametrize("end", [END, ALSO])
def test_an_end_inside_what_was_agreed_on_ends_the_step(end: int, target: Targets, asks: Request) -> None:
    there = target([A, end, B, A])
    text = {END: "a<end>ba", ALSO: "a<also>ba"}[end]
    assert step_of(there.write(asks(), Proposal(text, "limit"))) == ("a", "end", 1, 2)
    assert len(there.server.asked) == 1


def test_an_end_that_the_model_chooses_where_the_proposal_goes_on_ends_the_step(target: Targets, asks: Request) -> None:
    there = target([A, ALSO])
    assert step_of(there.write(asks(), Proposal("ab", "separator"))) == step_of(there.write(asks()))
    assert step_of(there.write(asks(), Proposal("a", "end"))) == ("a", "end", 1, 2)


@pytest.mark.parametrize("tokens", [[A, LINES, B], [A, LINE, LINE_B], [A_LINE, LINE, B], [A_LINE, LINE_B, B]])
def test_a_separator_inside_what_was_agreed_on_ends_the_step(
    tokens: Sequence[int], target: Targets, asks: Request, tiny: Tokenizer
) -> None:
    there = target(tokens)
    made = there.write(asks(), Proposal(tiny.decode(tokens, skip_special_tokens=True) + "ab", "limit"))
    assert step_of(made) == step_of(there.write(asks()))
    assert (made.text, made.stop_reason) == ("a", "separator")


@pytest.mark.parametrize("written", [[LINE, B, LINES], [LINE_B, LINES]])
@pytest.mark.parametrize("draft", ["a", "a b", "a a", "a\nb"])
def test_a_separator_across_the_join_ends_the_step(
    written: list[int], draft: str, target: Targets, asks: Request
) -> None:
    """The server finds no separator at the join, since it only searches what it writes."""
    there = target([A, LINE, *written])
    made = there.write(asks(), Proposal(draft, "limit"))
    assert step_of(made) == step_of(there.write(asks())) == ("a", "separator", 1, 3)


def test_what_a_server_writes_behind_a_separator_across_the_join_is_overhead(target: Targets, asks: Request) -> None:
    there = target([A, LINE, LINE, B, A, LINES])
    own = there.write(asks())
    made = there.write(asks(), Proposal("a b", "limit"))
    assert step_of(made) == step_of(own) == ("a", "separator", 1, 3)
    assert made.overhead.completion_tokens == 1 + len([B, A, LINES])


@pytest.mark.parametrize("engine", ENGINES)
def test_penalties_that_a_server_has_by_default_are_off(engine: Engine, target: Targets, asks: Request) -> None:
    there = target([A, A, B, A, LINES], engine=engine)
    there.server.penalty = 1.1
    own = there.write(asks())
    made = there.write(asks(), Proposal("aa", "end"))
    assert step_of(made) == step_of(own) == ("aaba", "separator", 1, 5)
    bodies = [body.get("sampling_params", body) for _, body in there.server.asked]
    off = {"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1}
    assert [{key: body[key] for key in off} for body in bodies] == [off, off]


@pytest.mark.parametrize("limit", range(1, 8))
def test_a_limit_counts_the_tokens_agreed_on(limit: int, target: Targets, asks: Request) -> None:
    there = target([A, B, A, B, A, LINES])
    request = asks(max_tokens=limit)
    for text in ("a", "a b", "b", " "):
        made = there.write(request, Proposal(text, "separator"))
        assert step_of(made) == step_of(there.write(request))
        assert made.usage.completion_tokens == min(limit, 6)


def test_no_more_is_asked_for_than_the_limit_leaves(target: Targets, asks: Request) -> None:
    there = target([A, B, A, B, A, LINES])
    there.write(asks(max_tokens=4), Proposal("a ", "end"))
    assert [body["sampling_params"]["max_new_tokens"] for _, body in there.server.asked] == [1, 2]


def test_an_end_that_only_the_server_knows_is_learnt_from_it(target: Targets, asks: Request) -> None:
    there = target([A, BLANK, B], ends=frozenset({END}))
    there.server.ends = frozenset({END, BLANK})
    first = there.write(asks(), Proposal("b", "end"))
    assert (first.text, first.stop_reason, first.usage.completion_tokens) == ("a", "end", 2)
    again = there.write(asks(), Proposal("a b", "end"))
    assert (again.text, again.stop_reason, len(there.server.asked)) == ("a", "end", 1)


def test_a_step_that_begins_with_a_blank_keeps_it_though_the_tokenizer_drops_one_from_a_text(
    target: Targets, asks: Request, tiny: Tokenizer
) -> None:
    class Stripping(type(tiny)):
        def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
            return super().decode(ids, skip_special_tokens=skip_special_tokens).removeprefix(" ")

    there = target([BLANK, A, LINES], tokenizer=Stripping())
    assert there.write(asks(), Proposal(" b", "end")).text == " a"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_agreed_on_to_its_end_costs_one_request_for_one_token(
    engine: Engine, target: Targets, asks: Request
) -> None:
    whole = target([AB, LINES], engine=engine)
    made = whole.write(asks(), Proposal("ab", "separator"))
    assert made.prefix_match == PrefixMatch(2, 2)
    [(_, body)] = whole.server.asked
    assert body.get("max_tokens", body.get("sampling_params", {}).get("max_new_tokens")) == 1
    assert made.overhead == Usage(completion_tokens=1)


def test_tokens_of_both_requests_are_counted(target: Targets, asks: Request) -> None:
    """One of three tokens is agreed. The second request reads the prompt, that token and the model's own."""
    there = target([A, B, A, LINES])
    made = there.write(asks(), Proposal("a a", "limit"))
    assert made.prefix_match == PrefixMatch(3, 1)
    assert made.usage == Usage(prompt_tokens=1, completion_tokens=4, cached_tokens=0)
    assert made.overhead == Usage(prompt_tokens=2 + 3, completion_tokens=1, cached_tokens=2)


@pytest.mark.parametrize(
    ("fields", "proposal"),
    [
        ({}, None),
        ({"temperature": 0.7}, Proposal("a", "end")),
        ({"max_tokens": 1}, Proposal("a", "end")),  # no room for a token after a proposed one
        ({}, Proposal("", "end")),
        ({"max_tokens": 40}, Proposal("a", "end")),  # more than the context holds: the server decides
    ],
)
def test_what_cannot_be_checked_is_written_plainly(
    fields: dict[str, Any], proposal: Proposal | None, target: Targets, asks: Request
) -> None:
    there = target([A, LINES], context=40)
    made = there.write(asks(**{"max_tokens": 39, **fields}), proposal)
    assert made.prefix_match is None
    assert [path for path, _ in there.server.asked] == ["/v1/completions"]
    assert isinstance(there.server.asked[0][1]["prompt"], str)
