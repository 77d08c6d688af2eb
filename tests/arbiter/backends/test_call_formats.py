"""Calls of tools in the forms of the models' families: what is written is read again, and what is cut is no call."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.call_formats.forms import FORMS, form_of_template
from arbiter.backends.call_formats.reading import CallForm, read_after, read_step
from arbiter.config.model_tables import CallFormName
from arbiter.protocols.tools import Tool, ToolCall, step_text

TEXTS = st.lists(
    st.sampled_from(
        [
            *("a", "é", '"', "\\", "\n", "\n\n", "{", "}", "[", "]", ";", " ", "null", "1", "```", '{"name": "f"}'),
            *("<tool_call>", "</tool_call>", "<function=f>", "[TOOL_CALLS]", "<｜tool▁call▁end｜>", "\\boxed{"),
        ]
    ),
    max_size=4,
).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)
KEYS = st.text("abc_", min_size=1, max_size=4)
NAMES = st.text("abcXYZ_-09", min_size=1, max_size=8)
CALLS = st.lists(st.tuples(NAMES, st.dictionaries(KEYS, VALUES, max_size=3)), min_size=1, max_size=3)
CONTENT = st.sampled_from(["", "I look it up.", "Two.\nlines", "{", "\\boxed{5}"])
BEFORE: dict[CallFormName, bool] = {"llama-3": False}
"""Whether a form allows text before its calls. The default is True."""


def kind_of(value: object) -> str:
    return "string" if isinstance(value, str) else "any"


def tools_of(calls: list[tuple[str, dict[str, Any]]]) -> list[Tool]:
    """Tools whose schemas say which arguments are texts: a form without quotes needs that."""
    tools: dict[str, Tool] = {}
    for name, values in calls:
        properties = {key: {"type": kind_of(value)} for key, value in values.items()}
        tools.setdefault(name, Tool(name, parameters=json.dumps({"properties": properties})))
    return list(tools.values())


def is_written(form: CallFormName, calls: list[tuple[str, dict[str, Any]]]) -> bool:
    """Whether the form can write the calls: Qwen3-Coder's has no way to write some texts, and one schema a tool."""
    if form != "qwen-coder":
        return True
    kinds: dict[tuple[str, str], str] = {}
    for name, values in calls:
        for key, value in values.items():
            if "</parameter>" in str(value) or kinds.setdefault((name, key), kind_of(value)) != kind_of(value):
                return False
    return len({name for name, _ in calls}) == len(calls)


def made(calls: list[tuple[str, dict[str, Any]]]) -> list[ToolCall]:
    return [ToolCall("", name, json.dumps(values)) for name, values in calls]


@pytest.mark.parametrize("name", FORMS)
@given(calls=CALLS, content=CONTENT)
def test_what_a_form_writes_is_read_again(
    name: CallFormName, calls: list[tuple[str, dict[str, Any]]], content: str
) -> None:
    if not is_written(name, calls):
        return
    form, before = FORMS[name], f"{content}\n" if content and BEFORE.get(name, True) else ""
    step = read_step(form, before + form.written(made(calls)), tools_of(calls))
    assert step.violation is None
    assert [(call.name, json.loads(call.arguments)) for call in step.calls] == calls
    assert step.content == before.rstrip()


@pytest.mark.parametrize("name", FORMS)
@given(calls=CALLS, count=st.integers(0, 3))
def test_calls_that_go_on_after_others_are_read_alone(
    name: CallFormName, calls: list[tuple[str, dict[str, Any]]], count: int
) -> None:
    if not is_written(name, calls):
        return
    form, whole, before = FORMS[name], FORMS[name].written(made(calls)), made(calls[:count])
    begun = form.begun(before) if before else ""
    assert whole.startswith(begun)
    step = read_after(form, before, whole.removeprefix(begun), tools_of(calls))
    assert (step.content.strip(), step.violation) == ("", None)
    assert [(call.name, json.loads(call.arguments)) for call in step.calls] == calls[count:]


@pytest.mark.parametrize("name", FORMS)
@given(text=TEXTS | st.text())
def test_any_text_after_a_call_can_be_read(name: CallFormName, text: str) -> None:
    step = read_after(FORMS[name], [ToolCall("", "f", "{}")], text)
    assert not (step.violation and step.calls)
    assert step.violation is None or step.content == text


@pytest.mark.parametrize("name", FORMS)
@given(calls=CALLS, share=st.floats(0, 1, exclude_max=True))
def test_a_text_that_is_cut_has_no_call_that_was_not_whole(
    name: CallFormName, calls: list[tuple[str, dict[str, Any]]], share: float
) -> None:
    if not is_written(name, calls):
        return
    form = FORMS[name]
    whole = form.written(made(calls))
    cut = whole[: int(share * len(whole))]
    step = read_step(form, cut, tools_of(calls))
    if name in ("mistral", "deepseek-v3") or len(calls) == 1:
        assert step.calls == ()
    assert [(call.name, json.loads(call.arguments)) for call in step.calls] == calls[: len(step.calls)]
    assert len(step.calls) < len(calls) or name == "mistral"


@pytest.mark.parametrize("name", FORMS)
@given(text=TEXTS | st.text())
def test_any_text_can_be_read(name: CallFormName, text: str) -> None:
    step = read_step(FORMS[name], text)
    assert step.content == text or step.calls
    assert not (step.violation and step.calls)
    assert step.violation is not None or not step.is_open


def nested(depth: int) -> str:
    return '{"a": ' * depth + "1" + "}" * depth


@pytest.mark.parametrize("depth", [900, 2000, 100_000])
@pytest.mark.parametrize("name", FORMS)
def test_a_call_of_any_depth_is_read_or_is_a_violation(name: CallFormName, depth: int) -> None:
    as_string = f'<tool_call>{{"name": "add", "arguments": {json.dumps(nested(depth))}}}</tool_call>'
    as_value = f"<tool_call><function=add><parameter=a>{nested(depth)}</parameter></function></tool_call>"
    form = FORMS[name]
    texts = [form.written([ToolCall("", "add", nested(depth))]) if name != "qwen-coder" else as_value, as_string]
    for text in texts:
        step = read_step(form, text)
        assert "add" in step_text(step.content, step.calls)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qwen-coder", '<tool_call><function=f><parameter=a>["\\ud800"]</parameter></function></tool_call>'),
        ("mistral", '[TOOL_CALLS]f{"a": "\ud800"}'),
    ],
)
def test_a_call_with_half_of_a_surrogate_pair_cannot_be_read(name: CallFormName, text: str) -> None:
    assert read_step(FORMS[name], text) == (text, (), "the call has a lone surrogate", False)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "2024", "2024"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", None),
        ({"type": ["string", "null"]}, "true", "true"),
        ({"type": ["string", "integer"]}, "2024", 2024),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({"$ref": "#/$defs/year"}, "2024", "2024"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "2024", 2024),
        ({"type": "integer"}, "2024", 2024),
        ({}, "2024", 2024),
        ({"anyOf": 5}, "2024", 2024),
    ],
)
def test_without_quotes_a_value_is_a_text_where_only_a_text_fits(schema: object, text: str, value: object) -> None:
    whole = {"properties": {"a": schema}, "required": ["a", "b"], "$defs": {"year": {"type": "string"}}}
    called = f"<tool_call><function=f><parameter=a>\n{text}\n</parameter></function></tool_call>"
    (call,) = read_step(FORMS["qwen-coder"], called, [Tool("f", parameters=json.dumps(whole))]).calls
    assert json.loads(call.arguments) == {"a": value}


HERMES, LLAMA, MISTRAL = FORMS["hermes"], FORMS["llama-3"], FORMS["mistral"]
ADD = '{"name": "add", "arguments": {"a": 1}}'


@pytest.mark.parametrize(
    ("form", "text", "content", "names"),
    [
        (HERMES, f"<tool_call>{ADD}</tool_call>", "", ["add"]),
        (HERMES, f"Well,\n\n<tool_call>\n{ADD}\n</tool_call>\nso.", "Well,\nso.", ["add"]),
        (HERMES, f"<tool_call>{ADD}</tool_call> and <tool_call>{ADD}</tool_call>", "and", ["add", "add"]),
        (HERMES, '<tool_call>{"name": "now"}</tool_call>', "", ["now"]),
        (
            FORMS["harmony"],
            'I add.<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}<|call|>',
            "I add.",
            ["add"],
        ),
        (HERMES, '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', "", ["add"]),
        (LLAMA, f"  {ADD}\n", "", ["add"]),
        (LLAMA, f'<|python_tag|>{ADD}; {{"name": "now", "parameters": {{}}}}', "", ["add", "now"]),
        (LLAMA, f"The answer is \\boxed{{{ADD}}}", f"The answer is \\boxed{{{ADD}}}", []),
        (LLAMA, "{1, 2}", "{1, 2}", []),
        (LLAMA, '{"type": "function", "name": "add", "parameters": {"a": 1}}', "", ["add"]),
        (LLAMA, '{"parameters": {"a": 1}, "name": "add"}', "", ["add"]),
        (LLAMA, '{"name": "Alice", "age": 30}', '{"name": "Alice", "age": 30}', []),
        (LLAMA, '{"name": "Alice", "age": }', '{"name": "Alice", "age": }', []),
        (LLAMA, '{"name": "Alice"} is she.', '{"name": "Alice"} is she.', []),
        (MISTRAL, f"[TOOL_CALLS] [{ADD}, {ADD}]", "", ["add", "add"]),
        (MISTRAL, '[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]now{}', "", ["add", "now"]),
        (MISTRAL, '[TOOL_CALLS]add[CALL_ID]aB3[ARGS]{"a": 1}[TOOL_CALLS]now[ARGS]{}', "", ["add", "now"]),
        (
            FORMS["deepseek-v3"],
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1}'
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "",
            ["add"],
        ),
    ],
)
def test_calls_are_found_among_text(form: CallForm, text: str, content: str, names: list[str]) -> None:
    step = read_step(form, text)
    assert (step.content, [call.name for call in step.calls], step.violation) == (content, names, None)


@pytest.mark.parametrize(
    ("form", "text", "violation"),
    [
        (HERMES, f"<tool_call><tool_call>{ADD}</tool_call></tool_call>", "the call has '<tool_call>"),
        (HERMES, "<tool_call>add(1)</tool_call>", "the call has 'add(1)"),
        (HERMES, '<tool_call>{"name": add}</tool_call>', "the call is not JSON"),
        (HERMES, '<tool_call>{"arguments": {}}</tool_call>', "the call is no object with a name and arguments"),
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>', "the call is no object"),
        (HERMES, f"<tool_call>[{ADD}]</tool_call>", "the call is no object"),
        (HERMES, f"<tool_call>{ADD}{ADD}</tool_call>", 'the call has \'{"name": '),
        (LLAMA, f"{ADD} is the call", "the call is followed by 'is the call'"),
        (LLAMA, '{"type": "function", "name": "add", "parameters": {a: 1}}', "the call is not JSON"),
        (LLAMA, '{"name": 5, "parameters": {}}', "the call is no object with a name"),
        (MISTRAL, "[TOOL_CALLS][]", "the list of calls is empty"),
        (
            FORMS["qwen-coder"],
            "<tool_call><function=f><parameter=a>1</parameter><parameter=a>2</parameter>",
            "the call has two",
        ),
    ],
)
def test_a_call_that_cannot_be_read_is_a_violation_by_the_whole_step(form: CallForm, text: str, violation: str) -> None:
    step = read_step(form, text)
    assert step.violation is not None
    assert step.violation.startswith(violation)
    assert (step.content, step.calls, step.is_open) == (text, (), False)


@pytest.mark.parametrize("name", FORMS)
def test_a_separator_in_the_arguments_leaves_the_call_open(name: CallFormName) -> None:
    arguments = json.dumps({"text": "one\n\ntwo"}) if name == "qwen-coder" else '{\n\n"text": "one"}'
    whole = FORMS[name].written([ToolCall("", "note", arguments)])
    cut, separator, _ = whole.partition("\n\n")
    assert separator
    assert read_step(FORMS[name], cut).is_open


def test_the_arguments_are_the_text_that_the_model_wrote() -> None:
    written = '{"n":  9007199254740993123,\n"x": 1.50}'
    (call,) = read_step(HERMES, f'<tool_call>{{"name": "add", "arguments": {written}}}</tool_call>').calls
    assert call.arguments == written


def test_values_of_qwen_coder_are_texts_where_the_schema_says_so() -> None:
    tool = Tool("f", parameters='{"properties": {"s": {"type": "string"}, "n": {"type": "integer"}}}')
    text = (
        "<tool_call>\n<function=f>\n<parameter=s>\n1\n</parameter>\n<parameter=n>\n1\n</parameter>\n"
        "<parameter=o>\n[1]\n</parameter>\n<parameter=t>\n\nhello\n\n</parameter>\n</function>\n</tool_call>"
    )
    (call,) = read_step(FORMS["qwen-coder"], text, [tool]).calls
    assert json.loads(call.arguments) == {"s": "1", "n": 1, "o": [1], "t": "\nhello\n"}


@pytest.mark.parametrize(
    "end", ["{", '{"', '{"na', '{"name"', '{"name": "a', '{"name": "add",', '{"name": "add", "par']
)
def test_what_can_become_a_call_is_open(end: str) -> None:
    assert read_step(LLAMA, end).is_open == (end != "{")


@pytest.mark.parametrize("text", ['{"name": "Alice", "age":', '{"age": 30', "{1, 2"])
def test_what_can_become_no_call_is_text(text: str) -> None:
    assert read_step(LLAMA, text) == (text, (), None, False)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("… <tool_call>\n{{ … }}", "hermes"),
        ("<tool_call>\n<function=example>", "qwen-coder"),
        ("{{ '[TOOL_CALLS][' }}", "mistral"),
        ("{{'<｜tool▁calls▁begin｜>'}}", "deepseek-v3"),
        ('Respond in the format {"name": function name, "parameters": dictionary', "llama-3"),
        ("{{ messages[0].content }}", None),
        ("<tool_call>{function-name}\n<arg_key>{arg-key}</arg_key>\n<arg_value>{arg-value}</arg_value>", None),
    ],
)
def test_the_chat_template_shows_the_form(template: str, name: str | None) -> None:
    assert form_of_template(template) == name
