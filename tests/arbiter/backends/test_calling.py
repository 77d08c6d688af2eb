"""A model that calls tools returns its calls as data, and any other text unchanged."""

import anyio
import pytest

from arbiter.backends.call_formats.forms import FORMS
from arbiter.backends.calling import CallingGenerator, unwrapped
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Step, Transcript, Usage
from arbiter.protocols.tools import AnswerRules, Tool

RULES = AnswerRules((Tool("add"),))
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
BARE = '{"name": "add", "arguments": {"a": 1}}'


def written(
    text: str, *before: str, rules: AnswerRules | None = RULES, thinks: bool = False, constraint: str | None = None
) -> Generation:
    model = ScriptedGenerator(lambda _: Generation(text, "end", Usage(9, 5)))
    steps = tuple(Step(one, "target") for one in before)
    request = GenerationRequest(
        "p", 0, 0, "draft", Transcript("q", steps, rules=rules), "\n\n", 9, 0.0, 1.0, 0, constraint=constraint
    )
    return anyio.run(CallingGenerator(model, FORMS["hermes"], opens_thought=thinks).generate, request)


def test_a_call_is_data_and_the_text_before_it_is_text() -> None:
    answer = written(f"I add.\n{CALL}")
    assert [(call.name, call.arguments) for call in answer.calls] == [("add", '{"a": 1}')]
    assert (answer.text, answer.valid, answer.usage) == ("I add.", None, Usage(9, 5))


def test_a_call_that_cannot_be_read_is_reported_with_its_text() -> None:
    answer = written(CALL[:-5])
    assert (answer.text, answer.calls, answer.valid) == (CALL[:-5], (), False)
    assert answer.problem == "the call is cut before </tool_call>"


@pytest.mark.parametrize("text", ["plain", " with blanks \n", BARE, ""])
def test_other_steps_are_unchanged(text: str) -> None:
    assert written(text) == Generation(text, "end", Usage(9, 5))


def test_without_tools_a_call_is_text() -> None:
    assert written(CALL, rules=None).text == CALL


@pytest.mark.parametrize(
    ("before", "text", "thinks", "content"),
    [
        ((), f"<think>\nI could write {CALL}", False, None),
        ((), f"I could write {CALL}", True, None),
        (("First",), f"Then {CALL}", True, None),
        (("<think>", "First"), f"So </think>{CALL}", False, "So </think>"),
        (("First",), f"So {CALL} is right.</think>\n{CALL}", True, f"So {CALL} is right.</think>"),
        (("So</think>", "I add."), CALL, True, ""),
    ],
)
def test_a_thought_has_no_calls(before: tuple[str, ...], text: str, thinks: bool, content: str | None) -> None:
    answer = written(text, *before, thinks=thinks)
    assert len(answer.calls) == (content is not None)
    assert answer.text == (text if content is None else content)


def test_under_a_constraint_a_bare_object_is_a_call_too() -> None:
    assert written(BARE, constraint="{}").calls == written(CALL, constraint="{}").calls == written(CALL).calls


def test_a_model_without_a_form_says_why_it_cannot_be_offered_tools() -> None:
    model = ScriptedGenerator(lambda _: "text")
    assert CallingGenerator(model, None, "set prompt").without_tools == "set prompt"
    assert unwrapped(CallingGenerator(model, None)) is model
    assert unwrapped(model) is model
