"""Rows that offer tools: their tools, their conversations, and the calls that are right."""

import json
from pathlib import Path
from typing import Any

import pytest

from arbiter.data.loading import Problem, load_problems
from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Turn
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall

SCHEMA = {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}
FUNCTION = {"name": "add", "description": "Adds one.", "parameters": SCHEMA}
ADD = {"type": "function", "function": FUNCTION}
RULES = AnswerRules((Tool("add", "Adds one.", json.dumps(SCHEMA, separators=(",", ":"))),))
USER = {"role": "user", "content": "1+1?"}
CALL = {"name": "add", "arguments": {"a": 1}}
ONE_CALL = '[{"name": "add", "arguments": {"a": 1}}]'
CALLS = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALL}]}
RESULT = {"role": "tool", "content": "2"}
CALLED = (Turn("assistant", "", (ToolCall("call_1", "add", '{"a": 1}'),)), Turn("tool", "2", call_id="call_1"))


def loaded(folder: Path, *rows: dict[str, Any]) -> list[Problem]:
    path = folder / "tasks.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return load_problems(str(path))


def only(folder: Path, row: dict[str, Any]) -> Problem:
    [problem] = loaded(folder, row)
    return problem


@pytest.mark.parametrize("tools", [[ADD], json.dumps([ADD]), [{"type": "function", **FUNCTION}]])
@pytest.mark.parametrize("question", [{"question": "1+1?"}, {"messages": [USER]}, {"prompt": [USER]}])
def test_the_tools_of_a_row_are_offered_with_its_question(tmp_path: Path, tools: Any, question: dict[str, Any]) -> None:
    problem = only(tmp_path, {**question, "tools": tools})
    assert (problem.question, problem.rules, problem.turns, problem.after) == ("1+1?", RULES, (), ())


@pytest.mark.parametrize("tools", [{}, {"tools": None}, {"tools": []}, {"tools": ""}])
def test_a_row_without_tools_is_read_as_ever(tmp_path: Path, tools: dict[str, Any]) -> None:
    assert only(tmp_path, {"question": "1+1?", "answer": "2", **tools}).rules is None


def test_the_choice_of_tools_of_a_row_holds(tmp_path: Path) -> None:
    problem = only(tmp_path, {"question": "q", "tools": [ADD], "tool_choice": "required", "parallel_tool_calls": False})
    assert problem.rules == AnswerRules(RULES.tools, "required", parallel=False)


def test_the_turns_of_a_conversation_with_tools_stay_apart(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Yes?"}, USER, CALLS, RESULT]
    problem = only(tmp_path, {"messages": turns, "tools": [ADD]})
    assert problem.turns == (Turn("system", "Be brief."), Turn("assistant", "Yes?"))
    assert (problem.question, problem.after, problem.answer) == ("1+1?", CALLED, None)


def test_the_calls_of_a_turn_may_be_a_json_text(tmp_path: Path) -> None:
    written = {**CALLS, "tool_calls": json.dumps(CALLS["tool_calls"])}
    spoken = {"role": "assistant", "content": "\\boxed{2}", "tool_calls": "[]"}
    problem = only(tmp_path, {"messages": [USER, written, RESULT, spoken]})
    assert (problem.after, problem.answer) == (CALLED, "2")


def test_calls_in_a_conversation_are_read_without_tools_too(tmp_path: Path) -> None:
    problem = only(tmp_path, {"messages": [USER, CALLS, RESULT], "answer": "2"})
    assert (problem.after, problem.rules, problem.answer) == (CALLED, None, "2")


def bare(value: Any) -> Any:
    return value


def as_openai(call: Any) -> dict[str, Any]:
    return {"type": "function", "function": call}


@pytest.mark.parametrize("form", [bare, as_openai])
@pytest.mark.parametrize("written", [bare, json.dumps])
@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}'])
def test_expected_calls_have_one_form(tmp_path: Path, form: Any, written: Any, several: bool, arguments: Any) -> None:
    call = form({"name": "add", "arguments": arguments})
    problem = only(tmp_path, {"question": "q", "tools": [ADD], "answer": written([call] if several else call)})
    assert problem.answer == ONE_CALL
    assert problem.expects_calls


def test_no_call_can_be_expected(tmp_path: Path) -> None:
    problem = only(tmp_path, {"question": "q", "tools": [ADD], "answer": []})
    assert (problem.answer, problem.expects_calls) == ("[]", True)


def test_the_reply_at_the_end_of_a_conversation_is_what_is_expected(tmp_path: Path) -> None:
    first, second = loaded(
        tmp_path,
        {"messages": [USER, CALLS], "tools": [ADD]},
        {"messages": [USER, CALLS, RESULT, {"role": "assistant", "content": "\\boxed{2}"}], "tools": [ADD]},
    )
    assert (first.after, first.answer, first.expects_calls) == ((), ONE_CALL, True)
    assert (second.after, second.answer, second.expects_calls) == (CALLED, "2", False)


@pytest.mark.parametrize("answer", ["2", 2, ["1", "2"]])
def test_a_row_with_tools_can_expect_a_text(tmp_path: Path, answer: Any) -> None:
    with_tools, without = loaded(
        tmp_path, {"question": "q", "answer": answer, "tools": [ADD]}, {"question": "q", "answer": answer}
    )
    assert with_tools.answer == without.answer
    assert not with_tools.expects_calls


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tools": "a calculator"}, r"tools must be a list, not str. A row offers its tools in OpenAI's form"),
        ({"tools": ["calculator"]}, r"tools\[0\]: a tool is an object with a type and a function, not str"),
        ({"tools": [{"name": "add"}]}, r"tools\[0\]\.type: only tools of the type 'function' can be offered"),
        (
            {"tools": [{"type": "function", "name": "add", "parameters": {"type": "dict"}}]},
            r"tools\[0\]: the parameters of add: it is not a usable JSON Schema",
        ),
        ({"tools": [ADD], "tool_choice": "subtract"}, "tool_choice: 'subtract' is none of the tools: add"),
        ({"tools": [ADD], "answer": {"a": 1}}, "an expected call must be an object with a name and with arguments"),
        ({"tools": [ADD], "answer": {"name": "add", "arguments": [1]}}, "an expected call must be an object"),
        ({"tools": [ADD], "messages": [USER, CALLS, USER]}, "the call 'call_1' has no result"),
        (
            {"messages": [USER, {**CALLS, "tool_calls": {"name": "add"}}, RESULT]},
            "the tool_calls of a turn must be a list",
        ),
        ({"tools": [ADD], "messages": [USER, RESULT]}, "message 1: tool_call_id must be a string"),
        ({"messages": [{"role": "user", "content": None}, CALLS]}, "a turn of the role 'user' has something else"),
        ({"tools": [ADD], "messages": [{"role": "function_call", "content": "{}"}]}, "message 0: role must be one of"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_field_or_turn(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"line 1: {message}"):
        loaded(tmp_path, row if "messages" in row else {"question": "q", **row})
