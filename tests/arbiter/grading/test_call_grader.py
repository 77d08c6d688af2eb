"""Calls are graded by the tools that they name, and by their arguments as JSON values."""

import json
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading.call_grader import CallGrader
from arbiter.grading.found_graders import find_grader
from arbiter.grading.grader import Grade, GradingRequest
from arbiter.protocols.tools import ToolCall

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-1e9, 1e9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.text(max_size=3), JSON, max_size=3)


def graded(expected: Any, *calls: tuple[str, str]) -> Grade:
    made = tuple(ToolCall(f"c{index}", name, arguments) for index, (name, arguments) in enumerate(calls))
    reference = expected if expected is None or isinstance(expected, str) else json.dumps(expected)
    return anyio.run(find_grader("calls").grade, GradingRequest("Let me add.", reference, calls=made))


def a_call(name: str = "add", **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ('{"a": 1, "b": [2, null]}', True),
        ('{ "b":[2.0,null],"a":1.00 }', True),
        ('{"b": [null, 2], "a": 1}', False),
        ('{"a": 1, "b": [2, null], "c": 3}', False),
        ('{"a": 1}', False),
        ('{"a": true, "b": [2, null]}', False),
        ('{"a": "1", "b": [2, null]}', False),
        ('{"a": 1, "b": [2, false]}', False),
        ('{"a": 1, "b": {"0": 2}}', False),
        ('{"a": 1, "b": [2, null', False),
    ],
)
def test_arguments_are_equal_if_their_json_values_are(written: str, right: bool) -> None:
    assert graded([a_call(a=1, b=[2, None])], ("add", written)).right is right


@pytest.mark.parametrize(
    ("calls", "right"),
    [
        ([("add", '{"a": 1}'), ("add", '{"a": 2}')], True),
        ([("add", '{"a": 2}'), ("add", '{"a": 1}')], True),
        ([("add", '{"a": 1}')], False),
        ([("add", '{"a": 1}'), ("add", '{"a": 1}')], False),
        ([("add", '{"a": 1}'), ("add", '{"a": 2}'), ("add", '{"a": 2}')], False),
        ([("add", '{"a": 1}'), ("subtract", '{"a": 2}')], False),
    ],
)
def test_each_expected_call_must_be_made_once_in_any_order(calls: list[tuple[str, str]], right: bool) -> None:
    assert graded([a_call(a=1), a_call(a=2)], *calls).right is right


def test_where_no_call_is_expected_none_may_be_made() -> None:
    assert graded([]) == Grade(True, "")
    assert graded([], ("add", "{}")).right is False


def test_a_wrong_grade_says_what_was_called_and_what_is_right() -> None:
    grade = graded([a_call(a=1)], ("add", '{"a": 2}'))
    assert grade.answer == '{"name": "add", "arguments": {"a": 2}}'
    assert grade.reason == 'the right answer is [{"name": "add", "arguments": {"a": 1}}]'
    assert graded([a_call(a=1)]) == Grade(False, None, "it calls no tool")


@pytest.mark.parametrize("reference", [None, "2", "[1]", '{"name": "add", "arguments": {}}', '[{"name": "add"}]'])
def test_without_a_list_of_calls_as_reference_an_answer_is_not_graded(reference: str | None) -> None:
    assert graded(reference, ("add", "{}")).right is None


@given(ARGUMENTS, ARGUMENTS)
def test_equal_values_are_right_and_others_wrong(one: Any, other: Any) -> None:
    expected, text = [a_call() | {"arguments": one}], json.dumps(other)
    alike = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    right = anyio.run(
        CallGrader().grade, GradingRequest("", json.dumps(expected), calls=(ToolCall("", "add", text),))
    ).right
    assert right or not alike
    assert graded(expected, ("add", json.dumps(one, indent=2))).right is True
