"""A model that calls tools returns its calls as data, and any other text unchanged."""

from typing import Any

import anyio
import msgspec
import pytest
from tokenizers import Tokenizer, models

from arbiter.actors.ring_setup import Models
from arbiter.backends.bounded_steps import with_boundary
from arbiter.backends.call_formats.forms import FORMS
from arbiter.backends.calling import CallingGenerator, hidden_marks, unwrapped
from arbiter.backends.fences import open_fence
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.backends.step_boundaries import OutsideBlocks
from arbiter.backends.token_texts import FastTokenTexts
from arbiter.config.model_tables import CallFormName
from arbiter.protocols.answer_tokens import WrittenToken
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Step, Transcript, Usage
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall, step_text

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
    assert answer.violation == "the call is cut before </tool_call>"


@pytest.mark.parametrize("text", ["plain", " with blanks \n", BARE, ""])
def test_other_steps_are_unchanged(text: str) -> None:
    assert written(text) == Generation(text, "end", Usage(9, 5))


def test_without_tools_a_call_is_text() -> None:
    assert written(CALL, rules=None).text == CALL


@pytest.mark.parametrize("text", [CALL, CALL[:-5], "<tool_call>"])
def test_where_no_tool_may_be_called_a_call_is_text(text: str) -> None:
    assert written(text, rules=AnswerRules(RULES.tools, "none")) == written(text, rules=None)


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


@pytest.mark.parametrize("mark", ["<think>", "</think>", "<think></think>"])
@pytest.mark.parametrize(("thought", "thinks"), [("", False), ("<think>So.</think>\n", False), ("So.</think>\n", True)])
def test_marks_of_a_thought_in_the_arguments_of_a_call_are_text(mark: str, thought: str, thinks: bool) -> None:
    answer = written(thought + CALL.replace("1", f'"use {mark} tags"'), thinks=thinks)
    assert [call.arguments for call in answer.calls] == [f'{{"a": "use {mark} tags"}}']
    assert answer.text == thought.strip()


def test_under_a_constraint_a_bare_object_is_a_call_too() -> None:
    assert written(BARE, constraint="{}").calls == written(CALL, constraint="{}").calls == written(CALL).calls


def in_parts(text: str) -> tuple[ScriptedGenerator, CallingGenerator]:
    """A model that writes ``text`` up to the next separator."""

    def write(request: GenerationRequest) -> Generation:
        before = "".join(step.text + request.separator for step in request.transcript.steps)
        part, found, _ = text.removeprefix(before).partition(request.separator)
        return Generation(part, "separator" if found else "end", Usage(9, 5))

    model = ScriptedGenerator(write)
    return model, CallingGenerator(model, FORMS["hermes"])


def a_request(*before: str, rules: AnswerRules | None = RULES) -> GenerationRequest:
    steps = tuple(Step(one, "target") for one in before)
    return GenerationRequest("p", 0, 0, "draft", Transcript("q", steps, rules=rules), "\n\n", 99, 0.0, 1.0, 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", ["", "I add."])
def test_a_model_reads_the_calls_of_its_answer_in_its_own_form_and_goes_on_after_them(
    form: CallFormName, content: str
) -> None:
    """Another model wrote the first call. What the model adds is read alone, as calls of the next step."""
    first, second = (ToolCall("", "add", f'{{"a": {value}}}') for value in (1, 2))
    both, begun = FORMS[form].written([first, second]), FORMS[form].begun([first])
    seen: list[GenerationRequest] = []

    def write(request: GenerationRequest) -> Generation:
        seen.append(request)
        return Generation(both.removeprefix(begun), "end", Usage(5, 2))

    step = Step(step_text(content, [first]), "draft", overrun="\n", calls=(first,))
    request = msgspec.structs.replace(a_request(), transcript=Transcript("q", (step,), rules=RULES))
    answer = anyio.run(CallingGenerator(ScriptedGenerator(write), FORMS[form]).generate, request)
    assert (answer.text.strip(), answer.calls) == ("", (second,))
    assert seen[0].written == f"{content}\n{begun}" if content else begun


def test_an_answer_that_adds_no_call_is_empty() -> None:
    written = Generation("]", "end", Usage(5, 1), tokens=(WrittenToken("]", -0.1),))
    model = ScriptedGenerator(lambda _: written)
    step = Step("", "draft", overrun="\n", calls=(ToolCall("", "add", "{}"),))
    request = msgspec.structs.replace(a_request(), transcript=Transcript("q", (step,), rules=RULES))
    answer = anyio.run(CallingGenerator(model, FORMS["mistral"]).generate, request)
    assert (answer.text, answer.calls, answer.valid, answer.tokens) == ("", (), None, ())


def test_a_separator_within_a_call_does_not_end_the_step() -> None:
    spaced = CALL.replace('"a": 1', '\n\n"a":\n\n1\n\n')
    model, calling = in_parts(f"I add.\n\n{spaced}\n\nSo it is.")
    first = anyio.run(calling.generate, a_request())
    assert (first.text, first.stop_reason, first.calls) == ("I add.", "separator", ())
    second = anyio.run(calling.generate, a_request("I add."))
    assert [call.arguments for call in second.calls] == ['{\n\n"a":\n\n1\n\n}']
    assert (second.text, second.stop_reason, second.usage.completion_tokens) == ("", "separator", 20)
    assert model.calls == 5


def test_without_tools_a_separator_within_a_call_ends_the_step() -> None:
    model, calling = in_parts(CALL.replace('"a": 1', '\n\n"a": 1'))
    assert anyio.run(calling.generate, a_request(rules=None)).stop_reason == "separator"
    assert model.calls == 1


SCHEMA = '{"type": "object"}'
FITTING = AnswerRules(schema=SCHEMA)


def test_an_answer_that_must_fit_a_schema_is_one_step() -> None:
    model, calling = in_parts('Here:\n\n{\n\n"a": 1\n\n}')
    answer = anyio.run(calling.generate, a_request(rules=FITTING))
    assert (answer.text, answer.stop_reason, model.calls) == ('Here:\n\n{\n\n"a": 1\n\n}', "end", 4)


@pytest.mark.parametrize("thinks", [False, True])
def test_the_thought_before_it_has_steps_as_ever(thinks: bool) -> None:
    first = "First" if thinks else "<think>First"
    model, calling = in_parts(f'{first}\n\nSecond</think>\n\n{{\n\n"a": 1}}')
    calling = CallingGenerator(model, None, opens_thought=thinks)
    steps: list[str] = []
    for _ in range(3):
        steps.append(anyio.run(calling.generate, a_request(*steps, rules=FITTING)).text)
    assert steps == [first, "Second</think>", '{\n\n"a": 1}']


def test_an_answer_that_must_fit_a_schema_is_no_call() -> None:
    assert written(CALL, rules=FITTING) == written(CALL, rules=None)
    both = AnswerRules(RULES.tools, schema=SCHEMA)
    assert written(BARE, rules=both, constraint=SCHEMA).calls == ()
    assert written(CALL, rules=both).calls == written(CALL).calls


def test_no_constraint_holds_within_a_thought() -> None:
    seen: list[str | None] = []

    def write(request: GenerationRequest) -> Generation:
        seen.append(request.constraint)
        return Generation("{}", "end", Usage(9, 5))

    for before, thinks in (((), False), ((), True), (("<think>So",), False), (("So</think>",), True)):
        request = msgspec.structs.replace(a_request(*before, rules=FITTING), constraint=SCHEMA)
        anyio.run(CallingGenerator(ScriptedGenerator(write), None, opens_thought=thinks).generate, request)
    assert seen == [SCHEMA, None, None, SCHEMA]


@pytest.mark.parametrize(
    ("rules", "is_heard"),
    [
        (None, True),
        (AnswerRules(effort="medium"), True),
        (AnswerRules(RULES.tools, effort="medium"), False),
        (AnswerRules(schema="true", effort="medium"), False),
    ],
)
def test_the_text_of_a_step_is_passed_on_where_neither_tools_nor_a_schema_restrict_it(
    rules: AnswerRules | None, is_heard: bool
) -> None:
    heard: list[str] = []
    model = ScriptedGenerator(lambda _: Generation("1 step", "end", Usage(9, 5)), texts=lambda _: ["1"])
    answer = anyio.run(CallingGenerator(model, FORMS["hermes"]).stream, a_request(rules=rules), heard.append)
    assert (answer.text, heard) == ("1 step", ["1"] if is_heard else [])


def test_blocks_of_code_and_calls_are_whole_together() -> None:
    model, calling = in_parts(f"```\na\n\nb\n```\n{CALL}")
    wrapped = with_boundary(Models(ModelHandle(calling)), OutsideBlocks(open_fence))
    assert wrapped.draft is not None
    answer = anyio.run(wrapped.draft.port.generate, a_request())
    assert (answer.text, len(answer.calls), model.calls) == ("```\na\n\nb\n```", 1, 2)


def test_a_model_in_process_whose_marks_are_special_tokens_is_refused() -> None:
    inner: Any = Tokenizer(models.WordLevel({"a": 0}, "a"))
    inner.add_special_tokens(["[TOOL_CALLS]"])
    texts = FastTokenTexts(inner, None)
    assert hidden_marks(texts, FORMS["hermes"], "models.draft") is None
    reason = hidden_marks(texts, FORMS["mistral"], "models.draft")
    assert reason is not None
    assert reason.startswith("models.draft: its marks of calls are special tokens ([TOOL_CALLS])")


def test_a_model_without_a_form_says_why_it_cannot_be_offered_tools() -> None:
    model = ScriptedGenerator(lambda _: "text")
    assert CallingGenerator(model, None, "set prompt").without_tools == "set prompt"
    assert unwrapped(CallingGenerator(model, None)) is model
    assert unwrapped(model) is model


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"I add.\n{CALL}", "I add."),
        (f"I add.\n{CALL}\nDone.", "I add.\n"),  # the text after a call is not where the model wrote it
        (CALL, ""),
        ("plain", "plain"),
        (CALL[:-5], CALL[:-5]),
    ],
)
def test_the_tokens_of_a_step_are_those_of_its_text_before_a_call(text: str, expected: str) -> None:
    tokens = tuple(WrittenToken(one, -0.5) for one in text)
    model = ScriptedGenerator(lambda _: Generation(text, "end", Usage(9, 5), tokens=tokens))
    request = GenerationRequest(
        "p", 0, 0, "draft", Transcript("q", rules=RULES), "\n\n", 9, 0.0, 1.0, 0, top_logprobs=0
    )
    answer = anyio.run(CallingGenerator(model, FORMS["hermes"]).generate, request)
    assert answer.tokens is not None
    assert "".join(token.text for token in answer.tokens) == expected
    assert answer.text.startswith(expected)
