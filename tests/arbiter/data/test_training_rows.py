"""The rows of the usual releases, read as problems."""

from typing import Any

import msgspec
import pytest

from arbiter.data.problems import Problem, problem_of
from arbiter.grading.answers import Reference
from arbiter.protocols.errors import DataError


def read(**row: Any) -> Problem:
    """The problem in a row, without the row itself."""
    return msgspec.structs.replace(problem_of(row, "here, line 1", "1"), row={})


def test_gsm8k_answers_stand_behind_the_hashes() -> None:
    solution = "He has 5 <<2+3=5>>\nand so on.\n#### 1,005"
    assert read(question="q", answer=solution) == Problem("1", "q", "1005")


@pytest.mark.parametrize(
    "row",
    [
        {"ID": "2024-II-4", "Problem": "q", "Solution": "s", "Answer": 33},
        {"ID": "2024-II-4", "Year": 2024, "Problem Number": 4, "Question": "q", "Answer": "33", "Part": "II"},
        {"id": "2024-II-4", "problem": "q", "solution": "s", "answer": "33", "url": "u", "year": "2024"},
        {"id": "2024-II-4", "problem": "q", "solution": "\\boxed{33}", "url": "u"},
        {"id": "2024-II-4", "problem": "q", "answer": 33.0},
    ],
)
def test_aime_is_read_in_each_of_its_releases(row: dict[str, Any]) -> None:
    assert read(**row) == Problem("2024-II-4", "q", "33")


def test_the_answer_of_minerva_and_math_stands_in_the_solutions_last_box() -> None:
    row = {"problem": "q", "type": "t", "solution": "\\boxed{1}, and so $\\boxed{\\frac{1}{2}}$.", "idx": 7}
    assert read(**row) == Problem("7", "q", "\\frac{1}{2}")


@pytest.mark.parametrize(
    ("row", "question", "answer"),
    [
        ({"Body": "He has 5.", "Question": "How many?", "Answer": 5.0}, "He has 5.\nHow many?", "5"),
        ({"input": "q", "target": 3.5}, "q", "3.5"),
        ({"content": "q", "steps": "s", "answer": "3"}, "q", "3"),
        ({"question": "q", "choices": ["x", "y"], "answer": 1}, "q\n(A) x\n(B) y", "B"),
        ({"question": "q", "options": ["A)21", "B)22"], "correct": "B"}, "q\n(A) 21\n(B) 22", "B"),
        ({"question": "q", "options": "A) 1 B) 2", "Answer": "A"}, "q\nA) 1 B) 2", "A"),
        ({"question": "q", "options": {"A": "x", "B": "y"}, "label": "A"}, "q\n(A) x\n(B) y", "A"),
        ({"question": "q", "gt_cot": "s", "gt": "4"}, "q", "4"),
    ],
)
def test_the_evaluation_files_of_qwen_are_read(row: dict[str, Any], question: str, answer: str) -> None:
    problem = read(**row)
    assert (problem.id, problem.question, problem.answer) == ("1", question, answer)


def test_a_unit_in_parentheses_is_no_part_of_the_number() -> None:
    problem = read(body="He has 9.", question="How many?", answer="9 (apples)")
    assert problem.answer == Reference(("9",), unit="apples")


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"final_answer": ["2"]}, "2"),
        ({"final_answer": ["$1$,$2$"], "is_multiple_answer": True}, Reference(("1", "2"))),
        ({"final_answer": ["(1,2)"], "answer_type": "Tuple"}, "(1,2)"),
        ({"final_answer": ["2"], "unit": "km", "error": None}, Reference(("2",), unit="km")),
        ({"final_answer": ["2"], "error": "1e-1"}, Reference(("2",), tolerance=(0.1,))),
        ({"final_answer": ["2"], "error": 0.1}, Reference(("2",), tolerance=(0.1,))),
        (
            {"final_answer": ["2,3"], "is_multiple_answer": True, "error": "0.1,"},
            Reference(("2", "3"), None, (0.1, 1e-8)),
        ),
        ({"final_answer": None}, None),
    ],
)
def test_olympiadbench_answers_carry_several_values_units_and_tolerances(
    fields: dict[str, Any], answer: str | Reference | None
) -> None:
    row = {"question": "q", "is_multiple_answer": False, "unit": None, "error": None, **fields}
    assert read(**row).answer == answer


def test_a_tolerance_that_is_no_number_is_told_with_its_place() -> None:
    with pytest.raises(DataError, match="here, line 1: the field 'error' is 'about 1', but it must be a number, or"):
        read(question="q", final_answer=["1"], is_multiple_answer=False, error="about 1")


def test_what_has_to_be_read_before_the_question_stands_before_it() -> None:
    assert read(context="A ball rolls.", question="How far?").question == "A ball rolls.\nHow far?"


def test_the_first_name_that_is_not_null_counts() -> None:
    assert read(question=None, problem="q", answer=None, final_answer="3") == Problem("1", "q", "3")
