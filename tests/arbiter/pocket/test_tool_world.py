"""The guarantees of the world of tools."""

import json
import re
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.data.problems import problem_of
from arbiter.grading import GradingRequest
from arbiter.grading.call_grader import CallGrader
from arbiter.pocket.tool_world import FORMS, KINDS, TABLES, TOOLS, ToolProblem, tool_problems
from arbiter.pocket.world import LARGEST
from arbiter.protocols.tools import ToolCall
from arbiter.structured.validation import violation_of
from tests.hypothesis_profiles import examples

SCHEMAS = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}


def drawn(seed: int, count: int) -> list[ToolProblem]:
    return list(islice(tool_problems(seed), count))


def calculated(problem: ToolProblem) -> int:
    """Return the answer by Python's own arithmetic, from the words of the question."""
    value = 0
    for sentence in problem.question.split(". "):
        things = [thing for thing in problem.numbers if re.search(rf"\b{thing}\b", sentence)]
        operand = problem.numbers[things[0]] if things else int((re.findall(r"\d+", sentence) or ["0"])[0])
        match sentence.split():
            case ["Start" | "A", *_]:
                value = operand
            case ["Multiply" | "There", *_]:
                value *= operand
            case ["Divide", *_] | [_, "people", *_]:
                assert value % operand == 0
                value //= operand
            case ["Add", *_] | ["What", "comes", *_]:
                value += operand
            case ["Subtract", *_] | ["What", "is", "taken", *_]:
                value -= operand
            case _:
                assert sentence.endswith("?")
    return value


@given(st.integers())
@examples(0.2)
def test_the_words_of_a_question_have_the_answer_and_values_stay_within_bounds(seed: int) -> None:
    for problem in drawn(seed, 5):
        assert int(problem.answer) == calculated(problem)
        assert all(1 <= int(problem.result(call)) <= LARGEST for call in problem.calls)


@given(st.integers())
@examples(0.2)
def test_the_right_calls_fit_the_schemas_and_look_nothing_up_twice(seed: int) -> None:
    for problem in drawn(seed, 5):
        assert all(violation_of(SCHEMAS[call.name], call.arguments) is None for call in problem.calls)
        looked_up = [call.arguments for call in problem.calls if call.name == "look_up"]
        assert len(set(looked_up)) == len(looked_up)


@pytest.mark.asyncio
async def test_each_turn_is_a_problem_whose_answer_is_the_next_right_call_and_in_the_end_the_number() -> None:
    for problem in drawn(5, 20):
        *turns, last = [problem_of(row, "row", "") for row in problem.rows()]
        for index, (turn, call) in enumerate(zip(turns, problem.calls, strict=True)):
            assert (turn.question, len(turn.after), turn.expects_calls) == (problem.question, 2 * index, True)
            assert turn.after[1::2] == tuple(result for result in last.after[1 : 2 * index : 2])
            graded = await CallGrader().grade(GradingRequest("", turn.answer, calls=(call,)))
            assert graded.right
        assert [turn.text for turn in last.after[1::2]] == [problem.result(call) for call in problem.calls]
        assert (last.answer, last.expects_calls) == (problem.answer, False)
        assert last.rules is not None
        assert not last.rules.parallel


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("look_up", {"table": "price", "thing": "moon"}, "error: there is no price of moon"),
        ("calculate", {"left": 1, "operation": "/", "right": 0}, "error: a division by zero"),
        ("calculate", {"left": 7, "operation": "/", "right": 2}, "3"),
    ],
)
def test_a_call_that_has_no_result_says_why(name: str, arguments: dict[str, object], result: str) -> None:
    [problem] = drawn(1, 1)
    assert problem.result(ToolCall("1", name, json.dumps(arguments))) == result


def test_a_look_up_in_another_table_finds_nothing() -> None:
    [problem] = drawn(1, 1)
    other = next(table for table in TABLES if table != problem.table)
    call = ToolCall("1", "look_up", json.dumps({"table": other, "thing": problem.thing}))
    assert problem.result(call) == f"error: there is no {other} of {problem.thing}"


def test_all_tables_forms_and_kinds_of_operation_occur() -> None:
    problems = drawn(2, 200)
    assert {problem.table for problem in problems} == {*TABLES}
    assert {problem.form for problem in problems} == {*FORMS}
    assert {operation.kind for problem in problems for operation in problem.operations} == {*KINDS}


def test_the_splits_share_no_chain_of_operations_and_no_problem_occurs_twice() -> None:
    chains = [
        {(problem.table, problem.thing, problem.operations) for problem in islice(tool_problems(3, split), 400)}
        for split in ("train", "test")
    ]
    assert [len(found) for found in chains] == [400, 400]
    assert not chains[0] & chains[1]


def test_equal_seeds_draw_equal_problems_and_others_do_not() -> None:
    assert drawn(4, 20) == drawn(4, 20)
    assert drawn(4, 20) != drawn(5, 20)
