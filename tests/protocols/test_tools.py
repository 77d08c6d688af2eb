"""Calls of tools have one form as text, and the text of a step can be divided again."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.protocols.records import Candidate, Solution, StepRecord, Turn, Usage
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall, content_of, one_line, step_text

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(), values, max_size=4)
calls = st.builds(ToolCall, st.just(""), st.text(min_size=1), st.builds(json.dumps, objects))


@given(call=calls)
def test_the_text_of_a_call_is_one_line_of_json_with_the_same_values(call: ToolCall) -> None:
    assert "\n" not in call.text
    assert json.loads(call.text) == {"name": call.name, "arguments": json.loads(call.arguments)}


@given(arguments=objects, indent=st.none() | st.integers(0, 4))
def test_the_same_arguments_have_the_same_text_however_they_are_spaced(
    arguments: dict[str, object], indent: int | None
) -> None:
    assert one_line(json.dumps(arguments, indent=indent)) == one_line(json.dumps(arguments))


def test_numbers_of_arguments_are_not_changed() -> None:
    assert one_line('{"n" : 9007199254740993123, "x":1.000000}') == '{"n": 9007199254740993123, "x": 1.000000}'


@pytest.mark.parametrize("text", ["", "{", '{"a": }', "NaN", "{} {}"])
def test_arguments_that_are_no_json_are_a_string(text: str) -> None:
    assert json.loads(ToolCall("", "add", text).text) == {"name": "add", "arguments": text}


@pytest.mark.parametrize("depth", [100, 2000, 100_000])
def test_arguments_of_any_depth_have_a_text(depth: int) -> None:
    nested = '{"a": ' * depth + "1" + "}" * depth
    expected = json.loads(nested) if depth == 100 else nested
    assert json.loads(ToolCall("", "add", nested).text) == {"name": "add", "arguments": expected}


@given(content=st.text(), made=st.lists(calls, max_size=3))
def test_the_content_of_a_step_is_found_again(content: str, made: list[ToolCall]) -> None:
    assert content_of(step_text(content, made), made) == content


def test_a_tool_that_may_not_be_called_is_not_offered() -> None:
    tools = (Tool("add"),)
    assert AnswerRules(tools).offered == tools
    assert AnswerRules(tools, "none").offered == ()


def test_a_turn_without_calls_is_written_as_before() -> None:
    assert msgspec.json.encode(Turn("user", "Hello.")) == b'{"role":"user","text":"Hello."}'


def solution(*kept: Candidate) -> Solution:
    return Solution("p", "q", tuple(StepRecord((one,), 0) for one in kept), "tool_calls", 1.0, {})


def candidate(text: str, *made: ToolCall) -> Candidate:
    return Candidate("draft", step_text(text, made), "end", Usage(), 0.0, calls=made)


def test_the_text_of_a_solution_has_no_calls() -> None:
    call = ToolCall("c", "add", "{}")
    assert solution(candidate("First."), candidate("", call)).text == "First."
    assert solution(candidate("First."), candidate("I add.", call)).text == "First.\n\nI add."
    assert solution(candidate("", call)).text == ""
    assert solution(candidate("First."), candidate("", call)).tool_calls == (call,)
    assert solution(candidate("First.")).tool_calls == ()
