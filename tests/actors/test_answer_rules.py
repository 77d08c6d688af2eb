"""A step keeps the rules of an answer, or the reason says which one it breaks."""

import json

import jsonschema_rs
import pytest

from arbiter.actors.answer_rules import call_schema, violation_of_calls
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall

NUMBERS = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
ADD, LOOK = Tool("add", parameters=NUMBERS), Tool("look_up")
RULES = AnswerRules((ADD, LOOK))


def call(name: str = "add", arguments: str = '{"a": 1}') -> ToolCall:
    return ToolCall("", name, arguments)


@pytest.mark.parametrize(
    ("rules", "calls"),
    [
        (RULES, ()),
        (RULES, (call(),)),
        (RULES, (call(), call("look_up", "{}"))),
        (AnswerRules((ADD,), parallel=False), (call(),)),
        (AnswerRules((ADD, LOOK), "required", ("add",)), (call(),)),
        (AnswerRules((ADD,), "none"), ()),
    ],
)
def test_a_step_keeps_the_rules(rules: AnswerRules, calls: tuple[ToolCall, ...]) -> None:
    assert violation_of_calls(rules, calls, ends=True) is None


@pytest.mark.parametrize(
    ("rules", "calls", "reason"),
    [
        (AnswerRules((ADD,), "required"), (), "it ends the answer, which must call a tool"),
        (AnswerRules((ADD, LOOK), "required", ("add",)), (), "it ends the answer, which must call add"),
        (AnswerRules((ADD,), "none"), (call(),), "it calls add, but may call no tool"),
        (AnswerRules((ADD,), parallel=False), (call(), call()), "it makes 2 calls, but may make only one"),
        (RULES, (call("subtract"),), "it calls 'subtract', which is no tool that was offered; offered: add, look_up"),
        (AnswerRules(RULES.tools, allowed=("add",)), (call("look_up"),), "it calls look_up, but may call only add"),
        (RULES, (call(arguments="[1]"),), "the arguments of add are not a JSON object"),
        (RULES, (call(arguments=""),), "the arguments of add are not a JSON object"),
        (RULES, (call(arguments='{"a": 1'),), "the arguments of add do not fit its schema: it is not valid JSON: "),
        (RULES, (call(arguments='{"a": "x"}'),), "the arguments of add do not fit its schema: at /a: "),
        (RULES, (call(), call(arguments="{}")), "the arguments of add do not fit its schema: "),
    ],
)
def test_the_reason_names_the_rule_that_a_step_breaks(
    rules: AnswerRules, calls: tuple[ToolCall, ...], reason: str
) -> None:
    found = violation_of_calls(rules, calls, ends=True)
    assert found is not None
    assert found.startswith(reason)


def test_an_answer_that_must_call_a_tool_may_think_first() -> None:
    assert violation_of_calls(AnswerRules((ADD,), "required"), (), ends=False) is None


@pytest.mark.parametrize("rules", [RULES, AnswerRules((ADD,))])
def test_the_schema_of_a_call_allows_the_calls_that_keep_the_rules(rules: AnswerRules) -> None:
    schema = call_schema(rules)
    assert schema is not None
    fits = jsonschema_rs.validator_for(json.loads(schema)).is_valid
    assert fits({"name": "add", "arguments": {"a": 1}})
    assert not fits({"name": "add", "arguments": {"a": "x"}})
    assert not fits({"name": "subtract", "arguments": {}})


def test_a_schema_of_arguments_that_refers_to_itself_allows_any_object() -> None:
    schema = call_schema(AnswerRules((Tool("grow", parameters='{"properties": {"more": {"$ref": "#"}}}'),)))
    assert schema is not None
    assert jsonschema_rs.is_valid(json.loads(schema), {"name": "grow", "arguments": {"more": 1}})


def test_no_schema_where_no_call_is_allowed() -> None:
    assert call_schema(AnswerRules((ADD,), "none")) is None
