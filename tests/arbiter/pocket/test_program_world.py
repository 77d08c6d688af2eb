"""The guarantees of the world of programs, checked with Python itself."""

import contextlib
import io
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading import GradingRequest
from arbiter.grading.text_grader import TextGrader
from arbiter.pocket.program_world import ASKED, KINDS, TESTS, ProgramProblem, program_problems
from tests.hypothesis_profiles import examples


def drawn(seed: int, count: int) -> list[ProgramProblem]:
    return list(islice(program_problems(seed), count))


def run(program: str, names: dict[str, Any]) -> None:
    exec(program, names)  # noqa: S102 (the world's own program)


def printed(program: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        run(program, {})
    return output.getvalue().removesuffix("\n")


@given(st.integers())
@examples(0.2)
def test_the_answer_is_what_python_prints_and_each_step_has_the_list_after_its_statement(seed: int) -> None:
    for problem in drawn(seed, 5):
        assert printed(problem.program) == problem.answer
        start, *statements, _ = problem.program.split("\n")
        so_far = [start]
        for statement, step in zip(statements, problem.steps, strict=False):
            so_far.append(statement)
            words = printed("\n".join([*so_far, 'print(", ".join(words))']))
            assert step == f"`{statement}`: {words}."
        assert problem.steps[-1] == f"The answer is \\boxed{{{problem.answer}}}."
        assert len(problem.steps) == len(problem.changes) + 1


@given(st.integers())
@examples(0.2)
def test_the_right_function_passes_its_tests_and_one_without_a_change_fails_them(seed: int) -> None:
    for problem in drawn(seed, 3):
        names: dict[str, Any] = {}
        run(problem.function, names)
        for test in problem.tests:
            run(test, names)
        run("def change(words):\n    return words", names)
        with pytest.raises(AssertionError):
            run("\n".join(problem.tests), names)


def test_a_problem_is_tested_with_several_lists() -> None:
    assert all(2 <= len(problem.tests) <= TESTS for problem in drawn(1, 300))
    assert sum(len(problem.tests) == TESTS for problem in drawn(1, 300)) > 280


def test_all_kinds_of_change_and_of_question_occur() -> None:
    problems = drawn(2, 200)
    assert {change.kind for problem in problems for change in problem.changes} == {*KINDS}
    assert {problem.asked for problem in problems} == {*ASKED}


def test_the_splits_share_no_chain_of_changes_and_no_problem_occurs_twice() -> None:
    train, test = (list(islice(program_problems(3, split), 400)) for split in ("train", "test"))
    assert not {problem.changes for problem in train} & {problem.changes for problem in test}
    assert len({problem.program for problem in train}) == 400


def test_equal_seeds_draw_equal_problems_and_others_do_not() -> None:
    assert drawn(4, 20) == drawn(4, 20)
    assert drawn(4, 20) != drawn(5, 20)


@pytest.mark.asyncio
async def test_right_solutions_are_right_as_texts_and_those_of_other_problems_are_wrong() -> None:
    problems = drawn(6, 60)
    for problem, other in pairwise(problems):
        for solution in (problem, other):
            text = "\n\n".join(solution.steps)
            grade = await TextGrader().grade(GradingRequest(text, problem.answer))
            assert grade.right is (solution.answer == problem.answer)
