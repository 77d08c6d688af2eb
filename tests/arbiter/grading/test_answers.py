"""Answers found in texts, and answers compared as texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading.answers import boxes, extract_answer, plain, same_words, split_answers
from arbiter.structured.thoughts import text_after_thought

BALANCED = st.recursive(
    st.lists(st.sampled_from([*"ab0 ^+-,", "\\{", "\\}", "\\frac", "\\\\"]), max_size=6).map("".join),
    lambda inner: st.lists(inner | inner.map(lambda text: "{" + text + "}"), max_size=4).map("".join),
    max_leaves=12,
)
PART = st.text("abxyz0123456789^+-", min_size=1, max_size=6)


@given(
    before=st.text("ab {}$") | st.just("\\boxed{1} or \\boxed{"),
    answer=BALANCED.filter(str.strip),
    after=st.text("ab }$."),
)
def test_any_balanced_answer_in_the_last_box_is_read(before: str, answer: str, after: str) -> None:
    assert extract_answer(f"{before} \\boxed{{{answer}}}{after}") == answer.strip()


@given(text=st.text("ab \\{}$\n5bo") | st.lists(st.sampled_from(["\\boxed{", "\\fbox ", "}", "5", "\\"])).map("".join))
def test_a_box_of_any_text_lies_within_it(text: str) -> None:
    for box in boxes(text):
        assert 0 <= box.start < box.end <= len(text)
        assert box.inside in text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{x^{2^{3}}} {", "x^{2^{3}}"),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\boxed{1} then \\boxed{2", "1"),
        ("\\boxed{1} \\boxed{2 \\boxed{3", "1"),
        ("\\boxed{\\boxed{3}}", "3"),
        ("\\boxed{ 4\n}", "4"),
        ("\\boxed {4}", "4"),
        ("\\boxed{}", ""),
        ("\\boxed{5} \\boxed{}", "5"),
        ("\\fbox{7}", "7"),
        ("\\boxed{\\left\\{ x \\right.}", "\\left\\{ x \\right."),
        ("\\boxed{\\begin{matrix} 1 \\\\ 2 \\end{matrix}}", "\\begin{matrix} 1 \\\\ 2 \\end{matrix}"),
    ],
)
def test_the_answer_is_what_stands_in_the_last_whole_box(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed 5 apples", "5"),
        ("$\\boxed 5$.", "5"),
        ("it is \\boxed 5.", "5"),
        ("{\\boxed -3}", "-3"),
        ("\\(\\boxed5\\)", "5"),
        ("$\\boxed \\frac{1}{2}$", "\\frac{1}{2}"),
    ],
)
def test_a_box_without_braces_holds_the_next_token(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text", ["", "the answer is 3", "\\boxed", "\\boxed{3", "boxed{3}", "put it in \\boxed.", "a \\boxed answer"]
)
def test_without_a_whole_box_there_is_no_answer(text: str) -> None:
    assert extract_answer(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{1} and \\boxed{2}", "1, 2"),
        ("\\boxed{3}\n\nso $\\boxed{1}$, \\boxed{2}.", "1, 2"),
        ("\\boxed{1, \\boxed{2}}", "2"),
        ("\\boxed{1}", "1"),
        ("\\boxed{1}, \\boxed{2}. So \\boxed{2} and \\boxed{1}", "1, 2"),
    ],
)
def test_several_boxes_of_the_last_step_are_one_answer_where_that_is_asked_for(text: str, answer: str) -> None:
    assert extract_answer(text, answers=9) == answer


@pytest.mark.parametrize(
    ("piece", "found"),
    [("\\boxed{", 0), ("{", 0), ("}", 0), ("\\", 0), ("\\boxed{5}", 20_000), ("\\boxed{ {}", 0), ("\\boxed5 ", 20_000)],
)
def test_very_long_texts_are_read_in_one_pass(piece: str, found: int) -> None:
    assert len(boxes(piece * 20_000)) == found  # one pass per box would take minutes


@pytest.mark.parametrize(
    ("text", "behind"),
    [("a", "a"), ("<think>a</think>b", "b"), ("a</think>b", "b"), ("<think>a</think>b<think>c</think>d", "d")],
)
def test_the_answer_stands_behind_the_last_thought(text: str, behind: str) -> None:
    assert text_after_thought(text) == behind


@pytest.mark.parametrize("text", ["<think>a", "<think>a</think>b<think>c", "a<think>\\boxed{3}"])
def test_nothing_stands_behind_a_thought_that_never_ends(text: str) -> None:
    assert text_after_thought(text) is None


@given(parts=st.lists(PART, min_size=1, max_size=5))
def test_splitting_inverts_joining(parts: list[str]) -> None:
    assert split_answers(", ".join(parts), len(parts)) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1,-2", ["1", "-2"]),
        ("$69$,$84$", ["69", "84"]),
        ("$221,$8$", ["221", "8"]),
        ("1 \\text{ and } 2", ["1", "2"]),
        ("1, 2, and 3", ["1", "2", "3"]),
        ("1 or 2", ["1", "2"]),
        ("\\left\\{1, 2\\right\\}", ["1", "2"]),
        ("(1,2), [3,4]", ["(1,2)", "[3,4]"]),
        ("3 \\pm \\sqrt{2}", ["3 + \\sqrt{2}", "3 - \\sqrt{2}"]),
        ("10,\\!080", ["10080"]),
        ("f(1,2)", ["f(1,2)"]),
    ],
)
def test_answers_are_parted_outside_of_brackets(text: str, parts: list[str]) -> None:
    assert split_answers(text) == parts


def test_commas_of_thousands_part_nothing_where_the_count_says_so() -> None:
    assert split_answers("2,400, 1,350, 864", 3) == ["2400", "1350", "864"]
    assert split_answers("1,350", 2) == ["1", "350"]


@pytest.mark.parametrize(
    ("left", "right"),
    [("$x$.", "x"), ("\\left( 1,\\, 2 \\right)", "(1,2)"), ("\\dfrac12", "\\frac12"), ("1~2", "1 2"), ("1\\!2", "12")],
)
def test_plain_texts_differ_in_what_matters_alone(left: str, right: str) -> None:
    assert plain(left) == plain(right)


@pytest.mark.parametrize("text", ["\\leftarrow", "\\rightarrow x", "a, b", "\\{1\\}"])
def test_plain_keeps_what_only_looks_like_layout(text: str) -> None:
    assert plain(text).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("reference", ["C", "(C)", "\\text{(C)}", "\\textbf{C}", "$\\mathrm{(C)}$"])
@pytest.mark.parametrize(
    "answer",
    [
        "C",
        "(C)",
        "\\text{C}",
        "\\text{(C) }",
        "\\textbf{(C)}\\ 15",
        "C. 15",
        "(c)",
        "C: the last",
        "(C) A circle",
        "C. So (C)",
    ],
)
def test_a_choice_is_its_letter_however_it_is_set(answer: str, reference: str) -> None:
    assert same_words(answer, reference) is True


@pytest.mark.parametrize(
    "answer", ["D", "\\text{(B)}", "(D) C", "(C) and (A)", "(C), (B)", "C. or D.", "C: no, B", "c) or d)"]
)
def test_another_letter_is_another_choice(answer: str) -> None:
    assert same_words(answer, "\\text{(C)}") is False


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("Evelyn", "\\text{Evelyn}", True),
        ("\\text{evelyn.}", "Evelyn", True),
        ("\\textbf{The ellipse}", "\\text{ellipse}", True),
        ("no  solution", "\\text{No solution}", True),
        ("west", "\\text{east}", False),
        ("seat", "east", False),
        ("silent", "\\text{listen}", False),
        ("5", "\\text{odd}", False),
    ],
)
def test_texts_are_the_same_words(answer: str, reference: str, same: bool) -> None:
    assert same_words(answer, reference) is same


@pytest.mark.parametrize("reference", ["5", "abc", "xy", "2k", "\\frac{1}{2}", "x=5", "\\text{5 cm}", ""])
def test_what_may_be_mathematics_is_not_judged_as_words(reference: str) -> None:
    assert same_words("7", reference) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 1/2", "11/2"),
        ("1  1/2", "11/2"),
        ("3 4", "34"),
        ("a b", "ab"),
        ("1\\ 1/2", "11/2"),
        ("3\\,4", "34"),
        ("3~4", "34"),
        ("3\\quad4", "34"),
    ],
)
def test_a_space_between_digits_or_letters_is_not_taken_away(one: str, other: str) -> None:
    assert plain(one) != plain(other)


@pytest.mark.parametrize(
    ("text", "after"),
    [("so \\boxed{1}", None), ("so</think> \\boxed{1}", " \\boxed{1}"), ("a</think><think>b", None), ("", None)],
)
def test_a_thought_that_the_prompt_opened_hides_what_is_before_its_end(text: str, after: str | None) -> None:
    assert text_after_thought(text, in_thought=True) == after


def test_as_many_boxes_as_answers_are_required_all_count_and_of_others_equal_ones_count_once() -> None:
    text = "\\boxed{16}, \\boxed{1} and \\boxed{1}"
    assert extract_answer(text, answers=3) == "16, 1, 1"
    assert extract_answer(text, answers=2) == "16, 1"
