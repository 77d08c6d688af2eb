"""Words and lists, compared as texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading import Grade, GradingRequest, Reference
from arbiter.grading.text_grader import TextGrader, normal, same_text


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("Paris", "paris"), ("\\text{Paris}", "Paris"), ('"Paris."', "Paris"), ("**Paris**", "Paris"),
        ("red house", "the red house"), ("The   Red\nHouse!", "red house"), ("café", "cafe\u0301"),
        ("3,1,2", "[3, 1, 2]"), ("[3, 1 and 2]", "[3, 1, 2]"), ("(a; b)", "a, b"), ("blue, red", "{red, blue}"),
        ("\\{blue, red\\}", "{red, blue}"), ("red, white and blue", "red, white, blue"),
        ("Romeo and Juliet", "romeo and juliet"),
        ("snake_case", "snake_case"), ("`x`", "x"),
        ("**2*3**", "2*3"), ("*Paris* and **Rome**", "Paris, Rome"), ("**Paris", "Paris"), ("Paris**.", "Paris"),
        ("Paris** now", "Paris now"),
        ("***\"Paris\"***", "paris"), ("x²", "x^2"), ("10⁻³", "10^-3"), ("H₂O", "H2O"), ("?", " ? "),
        ("(1, 2]", "(1,2]"), ("[]", "[ ]"), ("...", "..."),
    ],
)  # fmt: skip
def test_what_differs_only_in_case_marks_and_spaces_is_the_same_text(answer: str, reference: str) -> None:
    assert same_text(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("Paris, France", "Paris"), ("house", "red house"), ("[1, 2, 3]", "[3, 1, 2]"), ("red", "{red, blue}"),
        ("7", "007"), ("1.5", "1.50"), ("1/2", "0.5"), ("snake case", "snake_case"), ("red, red", "red"), ("", "red"),
        ("2*3", "23"), ("2 * 3", "2 3"), ("(a)*(b)", "(a)(b)"), ("a*b*c", "abc"), ("2**3", "23"), ("2 ** 3", "2 3"),
        ("A*", "A"),
        ("(1,2]", "[1,2]"), ("(1,2]", "1,2"), ("x²", "x2"), ("x¹²", "x12"), ("?", "!"), ("$", "`"), (",", ";"),
        ("*", "**"), ("...", "?"),
    ],
)  # fmt: skip
def test_other_words_another_order_and_equal_values_are_another_text(answer: str, reference: str) -> None:
    assert not same_text(answer, reference)


def test_several_answers_of_the_data_are_required_in_any_order() -> None:
    both = Reference(("Rome", "Paris"))
    assert same_text("Paris and Rome", both)
    assert not same_text("Paris", both)
    assert not same_text("Paris, Rome, Rome", both)


@given(st.text(), st.sampled_from(["", "the ", "An "]), st.sampled_from(["", ".", "!", " "]))
def test_the_normal_form_of_a_text_is_its_own_normal_form_and_that_of_the_text_with_marks(
    text: str, before: str, after: str
) -> None:
    word = f"x{text}y"
    assert normal(f"{before}{word}{after}") == normal(word)


@pytest.mark.asyncio
async def test_the_answer_is_in_a_box_after_a_phrase_or_the_only_line() -> None:
    async def grade(text: str) -> Grade:
        return await TextGrader().grade(GradingRequest(text, "Paris"))

    assert await grade("So \\boxed{Paris}.") == Grade(True, "Paris", found_by="box")
    assert await grade("The answer is Paris.") == Grade(True, "Paris", found_by="answer is")
    assert await grade("Paris") == Grade(True, "Paris", found_by="whole text")
    assert await grade("Rome") == Grade(False, "Rome", "the right answer is Paris", "whole text")
    assert (await grade("I think.\nParis")).right is False
    assert (await grade("<think>Paris")).reason == "a thought never ends (there is no </think>), so there is no answer"
