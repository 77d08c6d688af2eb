"""The problems and annotated solutions of the package ``champ-dataset``."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from arbiter.data.annotated_solutions import AnnotatedSolution, annotated_solutions
from arbiter.data.champ import champ_solutions, reference_of
from arbiter.data.loading import load_problems
from arbiter.protocols.errors import DataError

PROSE = {
    "At least 1 number": 3,
    "Always greater than 20": 1,
    "Exactly one": 1,
    "Exactly one sequence": 1,
    "Infinitely many solutions": 1,
    "It is not possible": 1,
    "Monotonically increasing": 1,
    "No integer solutions": 5,
    "No positive integer solutions": 3,
    "No possible solutions": 1,
    "No such values": 3,
    "Such a sequence is not possible": 1,
    "The function is periodic, with a period of 8": 1,
    "The limit does not exist": 1,
    "The sequence does not exist": 2,
    "The sequence is not periodic": 1,
    "There are no prime numbers in the sequence": 1,
    "Yes, and the sequence is 1/2^3, 1/2^6, 1/2^9, ...": 1,
    "At most 0 integer-valued zeros": 1,
    "At most 0 integer-valued roots": 1,
    "At most 0 values": 1,
    "x(n)<y(n-1) for all n≥3": 1,
    "x(n)>y(n-1) for all n≥2": 1,
    "n times": 1,
    "2^floor(n/2)*floor(n/2)!": 1,
}
"""The references in prose, with how often each occurs: only the same words are right, so another wording is wrong."""


@pytest.fixture
def package() -> None:
    pytest.importorskip("champ_dataset")


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("239", "239"),
        ("@@C(10, 5)@@, or equivalently @@252@@", "252"),
        ("@@5/14@@, or approximately 35.7%", "5/14"),
        ("@@C(n, 4)@@, or an equivalent form such as @@n(n-1)(n-2)(n-3)/4!@@", "n(n-1)(n-2)(n-3)/4!"),
        ("100 (i.e., all values)", "100"),
        ("0 (no such selection is possible)", "0"),
        ("-3 is the only possible value", "-3"),
        ("The limit exists and is equal to @@(1+sqrt(4a+1))/2@@", "(1+sqrt(4a+1))/2"),
        ("2 inequalities", "2"),
        ("@@x=3, y=2@@", "x=3, y=2"),
        ("1, 4 and 9", "1, 4 and 9"),
        ("No integer solutions", "No integer solutions"),
    ],
)
def test_an_answer_is_a_reference_without_the_sentence_around_it(answer: str, reference: str) -> None:
    assert reference_of(answer) == reference


@pytest.mark.usefixtures("package")
def test_all_problems_have_a_reference_that_is_no_prose_except_those_listed() -> None:
    problems = load_problems("champ")
    assert len(problems) == 270
    assert Counter(problem.source for problem in problems) == {
        "Number-Theory": 80,
        "Inequality": 50,
        "Polynomial": 50,
        "Sequence": 50,
        "Combinatorics": 40,
    }
    assert not any("@@" in f"{problem.question}{problem.answer}" for problem in problems)
    words = ("sqrt", "sum", "and", "or", "Yes", "No")
    answers = [str(problem.answer) for problem in problems]
    prose = [answer for answer in answers if _longest_word(answer, words) > 2]
    assert Counter(prose) == PROSE


def _longest_word(text: str, known: tuple[str, ...]) -> int:
    letters = "".join(character if character.isalpha() else " " for character in text)
    return max((len(word) for word in letters.split() if word not in known), default=0)


@pytest.mark.usefixtures("package")
def test_the_first_wrong_step_is_the_one_that_holds_the_start_of_the_span() -> None:
    solutions = {solution.id: solution for solution in annotated_solutions("champ", None, "\n\n")}
    assert len(solutions) == 540
    assert sum(solution.wrong is None for solution in solutions.values()) == 96
    for name, question, text, start in champ_solutions():
        solution = solutions[name]
        assert solution.question == question
        assert [step.strip() for step in text.split("\n\n") if step.strip()] == [
            step.strip() for step in solution.steps
        ]
        if start is not None:
            assert solution.wrong is not None
            assert sum(len(step) for step in solution.steps[: solution.wrong]) <= start
            assert text[start : start + 8].split("\n")[0] in solution.steps[solution.wrong]


def test_rows_of_processbench_are_annotated_solutions(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k.jsonl"
    path.write_text(
        '{"id": "gsm8k-0", "problem": "q", "steps": ["a", "b"], "label": 1, "final_answer_correct": false}\n'
        '{"id": "gsm8k-1", "problem": "r", "steps": ["c"], "label": -1, "final_answer_correct": true}\n',
        encoding="utf-8",
    )
    expected = [AnnotatedSolution("gsm8k-0", "q", ("a", "b"), 1), AnnotatedSolution("gsm8k-1", "r", ("c",), None)]
    assert annotated_solutions(str(path), None, "\n\n") == expected
    assert annotated_solutions(str(path), 1, "\n\n") == expected[:1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            '{"problem": "q", "label": 0}',
            "needs 'problem' (a text) and 'steps' (a list of texts); fields here: problem, ",
        ),
        (
            '{"steps": ["a"], "label": 0}',
            "needs 'problem' (a text) and 'steps' (a list of texts); fields here: steps, ",
        ),
        (
            '{"problem": "q", "steps": ["a"]}',
            "needs 'label', the index of the first wrong step (0 to 0), or -1; fields ",
        ),
        (
            '{"problem": "q", "steps": ["a", "b"], "label": 2}',
            "needs 'label', the index of the first wrong step (0 to 1)",
        ),
    ],
)
def test_a_row_that_is_no_annotated_solution_is_told(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(row, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        annotated_solutions(str(path), None, "\n\n")
    assert str(caught.value).startswith(f"{path}, line 1: an annotated solution {message}")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "champ_dataset", None)
    with pytest.raises(DataError) as caught:
        load_problems("champ")
    assert str(caught.value) == (
        "the data set 'champ' needs champ_dataset, which is not installed: pip install -e '.[champ]' in the folder of "
        "Arbiter, or give --data the path of a file"
    )
