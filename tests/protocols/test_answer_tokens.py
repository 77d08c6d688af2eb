"""The tokens of a text and its parts: what they make up, and which cannot be."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.protocols.answer_tokens import TokenAlternative, WrittenToken, fault_of, tokens_within
from arbiter.protocols.records import AnswerToken, Candidate, Solution, StepRecord, StopReason, Usage
from arbiter.protocols.tools import ToolCall, step_text

PIECES = st.lists(st.text("ab \n世", max_size=3), max_size=8)


def tokens_of(*texts: str) -> tuple[WrittenToken, ...]:
    """Tokens with these texts, each with a log-probability of its own."""
    return tuple(WrittenToken(text, -float(index)) for index, text in enumerate(texts))


def step(*texts: str, author: Any = "draft", ending: StopReason = "separator", **fields: Any) -> StepRecord:
    """A step of tokens with these texts, of which the last is the separator if the step ends there."""
    text = "".join(texts).removesuffix("\n\n" if ending == "separator" else "")
    return StepRecord((Candidate(author, text, ending, Usage(), 0.0, tokens=tokens_of(*texts), **fields),), 0)


def solution(*steps: StepRecord, **fields: Any) -> Solution:
    return Solution("p", "q", steps, "answered", 0.0, {}, **fields)


@given(PIECES, st.integers(0, 12), st.integers(0, 12))
def test_the_tokens_of_a_part_make_up_the_part(pieces: list[str], start: int, size: int) -> None:
    tokens, text = tokens_of(*pieces), "".join(pieces)
    found = tokens_within(tokens, start, start + size)
    assert "".join(token.text for token in found) == text[start : start + size]
    assert {token.logprob for token in found} <= {token.logprob for token in tokens}


@given(PIECES)
def test_the_tokens_of_the_whole_are_all_that_add_text(pieces: list[str]) -> None:
    tokens, text = tokens_of(*pieces), "".join(pieces)
    found = tokens_within(tokens, 0, len(text))
    assert [token for token in found if token.text] == [token for token in tokens if token.text]


@pytest.mark.parametrize(
    ("tokens", "is_whole", "fault"),
    [
        (tokens_of("a", "b"), True, None),
        (tokens_of("a"), False, None),
        (tokens_of("a"), True, "do not make up"),
        (tokens_of("b"), False, "do not make up"),
        ((WrittenToken("ab", 0.1),), True, "is 0.1"),
        ((WrittenToken("ab", float("nan")),), True, "is nan"),
        ((WrittenToken("ab", float("-inf")),), True, "is -inf"),
        ((WrittenToken("ab", 0.0, (TokenAlternative("c", 2.0),)),), True, "is 2.0"),
    ],
)
def test_tokens_that_cannot_be_those_of_a_text_are_named(
    tokens: tuple[WrittenToken, ...], is_whole: bool, fault: str | None
) -> None:
    found = fault_of(tokens, "ab", is_whole)
    assert found is None if fault is None else fault in (found or "")


@given(st.lists(st.tuples(PIECES, st.sampled_from(["draft", "target"])), min_size=1, max_size=4), st.booleans())
def test_the_tokens_of_an_answer_make_up_its_text(given_steps: list[tuple[list[str], str]], is_cut: bool) -> None:
    steps = [step(*pieces, "\n\n", author=author) for pieces, author in given_steps[:-1]]
    pieces, author = given_steps[-1]
    last = step(*pieces, "\n\n", author=author) if is_cut else step(*pieces, ending="end", author=author)
    found = solution(*steps, last)
    assert found.tokens is not None
    assert "".join(token.text for token in found.tokens) == found.text


def test_each_token_of_an_answer_names_the_model_that_wrote_it() -> None:
    found = solution(step("a", ".\n\n"), step("b", "!", author="target", ending="end")).tokens
    assert found is not None
    assert [(token.text, token.author) for token in found] == [
        ("a", "draft"),
        (".\n\n", "draft"),
        ("b", "target"),
        ("!", "target"),
    ]


def test_a_token_that_ends_after_the_answer_adds_its_part() -> None:
    found = solution(step("a", ".\n\n")).tokens
    assert found == (AnswerToken("a", 0.0, author="draft"), AnswerToken(".", -1.0, author="draft"))


def test_tokens_end_with_the_text_at_a_stop_text() -> None:
    found = solution(step("one", " two", " three", ending="end"), stop=("wo",))
    assert found.tokens is not None
    assert [token.text for token in found.tokens] == ["one", " t"]


def test_a_call_has_no_tokens() -> None:
    calls = (ToolCall("1", "add", "{}"),)
    calling = step("I", " add.", ending="end", calls=calls)
    kept = calling.kept
    record = StepRecord(
        (Candidate("draft", step_text(kept.text, calls), "end", Usage(), 0.0, calls=calls, tokens=kept.tokens),), 0
    )
    found = solution(step("a", "\n\n"), record)
    assert found.tokens is not None
    assert "".join(token.text for token in found.tokens) == found.text == "a\n\nI add."


def test_an_answer_whose_tokens_were_not_requested_has_none() -> None:
    without = StepRecord((Candidate("draft", "b", "end", Usage(), 0.0),), 0)
    assert solution(step("a", "\n\n"), without).tokens is None
    assert solution().tokens is None
