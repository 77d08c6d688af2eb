"""What is read as an answer, what is right, and what is left unjudged."""

from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading import LONGEST, Grade, Grader, extract_answer

BALANCED = st.recursive(
    st.text("ab0 \\^+-,", max_size=6),
    lambda inner: st.lists(inner | inner.map(lambda text: "{" + text + "}"), max_size=4).map("".join),
    max_leaves=12,
)


async def graded(answer: str, reference: str | None) -> Grade:
    return await Grader().grade(f"So it is \\boxed{{{answer}}}.", reference)


@given(before=st.text("ab \\{}$") | st.just("\\boxed{1} or \\boxed{"), answer=BALANCED, after=st.text("ab }$."))
def test_any_balanced_answer_in_the_last_box_is_read(before: str, answer: str, after: str) -> None:
    assert extract_answer(f"{before} \\boxed{{{answer}}}{after}") == answer.strip()


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
        ("\\boxed{}", ""),
    ],
)
def test_the_answer_is_what_stands_in_the_last_whole_box(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize("text", ["", "the answer is 3", "\\boxed", "\\boxed{3", "\\boxed 3", "boxed{3}"])
def test_without_a_whole_box_there_is_no_answer(text: str) -> None:
    assert extract_answer(text) is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "reference"),
    [("12", "12"), ("-3", "-3"), ("007", "7"), (" 12 ", "12\n"), ("\\frac{a}{b}", "\\frac{a}{b}")],
)
async def test_an_answer_that_is_the_reference_is_right(answer: str, reference: str) -> None:
    assert await graded(answer, reference) == Grade(right=True, answer=answer.strip())


@pytest.mark.asyncio
async def test_another_whole_number_is_wrong_and_the_right_one_is_told() -> None:
    assert await graded("12", "13") == Grade(right=False, answer="12", reason="the right answer is 13")


@pytest.mark.asyncio
async def test_a_text_without_a_box_is_wrong_and_says_so() -> None:
    assert await Grader().grade("it is 3", "3") == Grade(right=False, reason="there is no boxed answer")


@pytest.mark.asyncio
@pytest.mark.parametrize(("text", "answer"), [("\\boxed{3}", "3"), ("it is 3", None)])
async def test_without_a_reference_an_answer_is_ungraded_with_the_reason(text: str, answer: str | None) -> None:
    grade = await Grader().grade(text, None)
    assert grade == Grade(right=None, answer=answer, reason="the problem has no reference answer")


@pytest.mark.asyncio
async def test_an_answer_that_is_too_long_is_ungraded_with_the_reason_and_cut() -> None:
    grade = await graded("1+" * LONGEST, "3")
    assert (grade.right, grade.reason) == (None, f"the answer is longer than {LONGEST} characters")
    assert grade.answer == ("1+" * LONGEST)[:LONGEST]


@pytest.mark.asyncio
async def test_in_a_worker_process_answers_are_compared_as_mathematics() -> None:
    pairs = {
        ("\\frac{1}{2}", "0.5"): True,
        ("0.5", "\\frac12"): True,
        ("x+1", "1+x"): True,
        ("(1, 2)", "(1,2)"): True,
        ("\\frac{1}{3}", "0.5"): False,
        ("(2, 1)", "(1,2)"): False,
        ("", "0.5"): False,
    }
    grader, grades = Grader(workers=1), dict[tuple[str, str], bool | None]()

    async def judge(answer: str, reference: str) -> None:
        grades[answer, reference] = (await grader.grade(f"\\boxed{{{answer}}}", reference)).right

    async with anyio.create_task_group() as judging:
        for answer, reference in pairs:
            judging.start_soon(judge, answer, reference)
    assert grades == pairs


@pytest.mark.asyncio
async def test_dollars_around_a_reference_do_not_make_an_answer_wrong() -> None:
    assert (await graded("\\frac{79}{128}", "$\\frac{79}{128}$")).right is True


def test_the_answer_of_every_math500_solution_is_read_out_of_it(real_data: Callable[[str], Path]) -> None:
    rows = [msgspec.json.decode(line) for line in real_data("math500.jsonl").read_bytes().splitlines()]
    read = {row["unique_id"]: extract_answer(row["solution"]) for row in rows}
    assert read == {row["unique_id"]: row["answer"] for row in rows}


@pytest.mark.asyncio
async def test_every_reference_of_math500_is_right_in_a_box(real_data: Callable[[str], Path]) -> None:
    rows = [msgspec.json.decode(line) for line in real_data("math500.jsonl").read_bytes().splitlines()]
    grades = [await graded(row["answer"], row["answer"]) for row in rows]
    assert [grade for grade in grades if not grade.right] == []
