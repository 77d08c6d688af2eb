"""Answers to multiple-choice questions, in all the ways in which models write them."""

from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading import Grade, GradingRequest, MathGrader, Reference
from arbiter.grading.choice_answers import named_choices, resolved_letters
from arbiter.grading.choice_grader import ChoiceGrader

COLOURS = ("red", "blue", "green", "a light grey")
TEN = tuple(
    f"choice number {word}" for word in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
)


async def graded(text: str, reference: str, choices: tuple[str, ...] = COLOURS) -> Grade:
    return await ChoiceGrader().grade(GradingRequest(text, reference, choices=choices))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{B}", "\\boxed{(B) blue}", "\\boxed{\\text{B}}", "\\boxed{blue}", "\\boxed{\\text{Blue}}", "\\boxed{b}",
        "\\boxed{B. blue}", "\\boxed{B: blue}", "\\boxed{B blue}", "\\boxed{2}", "\\boxed{\\textbf{(B)}}",
        "\\boxed{B)}", "\\boxed{\\texttt{B}}", "**The answer is B** blue",
        "So the answer is **B**.", "The answer is (B) blue.", "The correct answer is option B.", "Answer: B",
        "**Final Answer:** (B)", "B", "(B)", "blue", "The answer is blue, because the sky is.", "$B$",
    ],
)  # fmt: skip
async def test_a_letter_a_text_both_and_a_number_name_a_choice(text: str) -> None:
    grade = await graded(text, "B")
    assert (grade.right, grade.reason) == (True, None)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\\boxed{A}", "the right answer is B (blue)"),
        ("\\boxed{(B) red}", "the right answer is B (blue)"),  # it contradicts itself
        ("\\boxed{A or B}", "the right answer is B (blue)"),
        ("\\boxed{AB}", "the answer names none of the choices; the right answer is B (blue)"),
        ("\\boxed{yellow}", "the answer names none of the choices; the right answer is B (blue)"),
        ("\\boxed{Z}", "the answer names none of the choices; the right answer is B (blue)"),
        ("I am not sure about red or blue", 'there is no answer: no box, and no phrase such as "The final answer is"'),
        ("<think>B", "a thought never ends (there is no </think>), so there is no answer"),
    ],
)
async def test_another_choice_no_choice_and_no_answer_are_wrong_with_the_reason(text: str, reason: str) -> None:
    grade = await graded(text, "B")
    assert (grade.right, grade.reason) == (False, reason)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "text",
    ["ABD", "A B D", "A, B, D", "A, B and D", "(A), (B), (D)", "D, A, B", "(A) red, (B) blue, (D) a light grey"],
)
async def test_several_right_choices_are_named_in_any_order_together_or_apart(text: str) -> None:
    assert (await graded(f"\\boxed{{{text}}}", "ABD")).right is True
    assert (await graded(f"\\boxed{{{text}}}", "A B D")).right is True
    assert (await graded(f"\\boxed{{{text}}}", "ABC")).right is False


@pytest.mark.asyncio
async def test_several_boxes_name_several_choices() -> None:
    assert (await graded("\\boxed{A}, \\boxed{B} and \\boxed{D}", "ABD")).right is True
    assert (await graded("\\boxed{A} and \\boxed{B}", "ABD")).right is False


@pytest.mark.asyncio
async def test_letters_go_to_z_and_need_no_choices() -> None:
    assert (await graded("The answer is **G**", "G", TEN)).right is True
    assert (await graded("\\boxed{Z}", "Z", ())).right is True
    assert (await graded("The answer is **G**", "H", ())).right is False


@pytest.mark.asyncio
async def test_a_reference_that_is_no_choice_leaves_the_answer_ungraded_with_the_reason() -> None:
    grade = await graded("\\boxed{B}", "E")
    assert (grade.right, grade.reason) == (None, "the reference answer 'E' is none of the choices")


@pytest.mark.asyncio
async def test_the_text_of_a_choice_is_a_reference_as_well() -> None:
    assert (await graded("\\boxed{B}", "blue")).right is True


def test_a_number_is_a_text_before_it_is_a_position() -> None:
    assert named_choices("1", ("2", "1", "3")) == {"B"}
    assert named_choices("2", ("2 apples", "1 apple")) is None
    assert named_choices("2", ("none", "some")) == {"B"}


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=2), min_size=1, max_size=26, unique_by=str.casefold))
def test_each_letter_names_its_own_choice(choices: list[str]) -> None:
    for letter in ascii_uppercase[: len(choices)]:
        assert named_choices(letter, tuple(choices)) == {letter}
        assert named_choices(f"({letter})", tuple(choices)) == {letter}


@given(st.sets(st.sampled_from(ascii_uppercase[:8]), min_size=1))
def test_letters_that_are_given_several_times_or_as_a_reference_of_several_answers_are_the_same(
    letters: set[str],
) -> None:
    choices = TEN[:8]
    assert resolved_letters("".join(sorted(letters)), choices) == letters
    assert resolved_letters(", ".join(sorted(letters)), choices) == letters
    assert resolved_letters(Reference(tuple(letters)), choices) == letters


@pytest.mark.asyncio
@pytest.mark.slow
async def test_the_mathematics_grader_takes_the_letter_and_the_value_of_a_choice() -> None:
    async def right(answer: str) -> bool | None:
        request = GradingRequest(f"\\boxed{{{answer}}}", "B", choices=("0.25", "0.5", "0.75"))
        return (await MathGrader(workers=1).grade(request)).right

    assert [await right(answer) for answer in ("B", "(B)", "0.5", "\\frac12")] == [True] * 4
    assert [await right(answer) for answer in ("A", "0.25", "\\frac14", "2")] == [False] * 4


def test_an_asterisk_within_a_choice_tells_it_from_another() -> None:
    assert named_choices("2*3", ("23", "2*3")) == {"B"}
