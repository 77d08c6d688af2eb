"""Answers are divided into the thought at their beginning and the text after it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arbiter.structured.thoughts import AnswerDivider, divided_answer

PIECES = st.sampled_from(["<think>", "</think>", "</thi", "<thi", "<", "nk>", "\n", "\n\n", " ", "a", "b c", "é"])
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@pytest.mark.parametrize(
    ("text", "in_thought", "reasoning", "content"),
    [
        ("42", False, "", "42"),
        ("\n42\n", False, "", "\n42\n"),
        ("<think>\n12+30\n\nis 42\n</think>\n\nIt is 42.\n", False, "12+30\n\nis 42", "It is 42.\n"),
        ("\n <think>a</think>b", False, "a", "b"),
        ("12+30\n</think>\n\n42", True, "12+30", "42"),
        ("<think>\n12+30\n</think>42", True, "12+30", "42"),
        ("<think>\n\n</think>\n\n42", False, "", "42"),
        ("<think>12", False, "12", None),
        ("<think>", False, "", None),
        ("12+", True, "12+", None),
        ("", True, "", None),
        ("", False, "", ""),
        ("<think>12</think>", False, "12", ""),
        ("<thin", False, "", "<thin"),
        ("say </think> or <think>", False, "", "say </think> or <think>"),
        ("<think>a</think>b</think>c<think>d", False, "a", "b</think>c<think>d"),
    ],
)
def test_the_first_closing_mark_ends_the_thought(
    text: str, in_thought: bool, reasoning: str, content: str | None
) -> None:
    assert divided_answer(text, in_thought) == (reasoning, content)


@given(TEXTS, st.booleans(), st.lists(st.integers(0, 60), max_size=8))
@example("<think>", False, [7])
def test_the_parts_of_a_divided_stream_join_to_those_of_the_whole(text: str, in_thought: bool, cuts: list[int]) -> None:
    ends = [*sorted(min(cut, len(text)) for cut in cuts), len(text)]
    divider = AnswerDivider(in_thought)
    parts = [divider.add(text[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    parts.append(divider.end())
    whole = divided_answer(text, in_thought)
    assert "".join(reasoning for reasoning, _ in parts) == whole.reasoning
    assert "".join(content for _, content in parts) == (whole.content or "")


@given(TEXTS, st.booleans())
def test_only_newlines_and_what_may_be_a_mark_are_held_back(text: str, in_thought: bool) -> None:
    text += "z"
    divider, whole = AnswerDivider(in_thought), divided_answer(text, in_thought)
    assert divider.add(text) == (whole.reasoning, whole.content or "")
    assert divider.end() == ("", "")
