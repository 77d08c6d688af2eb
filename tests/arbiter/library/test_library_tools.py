"""Tools in the library: which ones a call accepts, and a loop of an agent that calls them."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from arbiter import Arbiter, ConfigError, DataError, Tool, ToolCall
from arbiter.backends.calling import CallingGenerator
from arbiter.data.conversation import conversation
from arbiter.data.offered_tools import answer_rules
from arbiter.extending import Generation, GenerationRequest, ModelHandle, Models, ScriptedGenerator
from arbiter.protocols.records import Turn, Usage
from arbiter.protocols.tools import NO_ARGUMENTS, AnswerRules

Virtual = Callable[[Callable[[], Awaitable[None]]], None]

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ADD = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}
NOW = {"type": "function", "name": "now"}
BOTH = (Tool("add", "Adds.", '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}'), Tool("now"))


def assistant(*calls: str, content: str | None = None, arguments: str = "{}") -> dict[str, Any]:
    made = [{"id": one, "type": "function", "function": {"name": "now", "arguments": arguments}} for one in calls]
    return {"role": "assistant", "content": content, **({"tool_calls": made} if made else {})}


def result(call: str, content: str = "noon") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": content}


USER = {"role": "user", "content": "When?"}


def test_tools_are_taken_in_both_of_openais_forms() -> None:
    rules = answer_rules([ADD, NOW])
    assert rules == AnswerRules(BOTH)
    assert answer_rules(BOTH) == rules
    assert BOTH[1].parameters == NO_ARGUMENTS


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", ())),
        ("auto", ("auto", ())),
        ("none", ("none", ())),
        ("required", ("required", ())),
        ("now", ("required", ("now",))),
        ({"type": "function", "function": {"name": "now"}}, ("required", ("now",))),
        ({"type": "function", "name": "now"}, ("required", ("now",))),
        ({"type": "allowed_tools", "mode": "auto", "tools": [NOW]}, ("auto", ("now",))),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [ADD]}}, ("required", ("add",))),
    ],
)
def test_a_choice_says_which_tools_may_or_must_be_called(choice: Any, expected: tuple[str, tuple[str, ...]]) -> None:
    rules = answer_rules([ADD, NOW], choice, parallel=False)
    assert rules is not None
    assert (rules.choice, rules.allowed, rules.parallel) == (*expected, False)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_without_tools_there_are_no_rules(choice: str | None) -> None:
    assert answer_rules([], choice) is None


def schema(parameters: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


@pytest.mark.parametrize(
    ("tools", "choice", "reason"),
    [
        ("add", None, "tools must be a list"),
        ([], "required", "tool_choice: there are no tools to choose from"),
        ([ADD, ADD], None, r"tools\[1\]: there are two tools with the name 'add'"),
        ([Tool(f"t{n}") for n in range(129)], None, "tools: there are 129, but at most 128"),
        ([{"type": "web_search"}], None, r"tools\[0\].type: only tools of the type 'function'"),
        ([3], None, r"tools\[0\]: a tool is an object"),
        ([{"type": "function", "function": 3}], None, r"tools\[0\].function must be an object"),
        ([{"type": "function"}], None, r"tools\[0\]: the function has no name"),
        ([Tool("two words")], None, r"tools\[0\]: the name 'two words' must have"),
        ([schema({"type": "nothing"})], None, r"tools\[0\]: the parameters of f: .*"),
        ([schema("text")], None, r"tools\[0\]: the parameters of f: .*"),
        ([schema(3)], None, r"tools\[0\]: the parameters of f: .*"),
        ([Tool("f", parameters="{")], None, r"tools\[0\]: the parameters of f: .*"),
        ([Tool("f", "\ud800")], None, r"tools\[0\]: not valid Unicode"),
        ([ADD], "subtract", "tool_choice: 'subtract' is none of the tools: add"),
        ([ADD], {"type": "function", "name": "subtract"}, "tool_choice: 'subtract' is none of the tools"),
        ([ADD], {"type": "allowed_tools", "mode": "auto"}, "tool_choice: allowed_tools needs a mode"),
        ([ADD], {"type": "mcp"}, "tool_choice.type: 'mcp' is not supported"),
        ([ADD], 3, "tool_choice: 3 is neither"),
    ],
)
def test_a_tool_or_choice_that_is_wrong_is_refused_by_name(tools: Any, choice: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        answer_rules(tools, choice)


def test_a_schema_may_refer_to_itself() -> None:
    assert answer_rules([schema({"properties": {"more": {"$ref": "#"}}})]) is not None


def test_a_conversation_is_divided_at_the_last_question() -> None:
    system = {"role": "system", "content": "Be brief."}
    turns, question, after = conversation(
        [
            system,
            USER,
            assistant("c1", content="I look."),
            result("c1"),
            assistant(content="Noon."),
            USER,
            assistant("c2", "c3"),
            result("c3", "one"),
            result("c2", "two"),
        ]
    )
    call = ToolCall("c1", "now", "{}")
    assert turns == (
        Turn("system", "Be brief."),
        Turn("user", "When?"),
        Turn("assistant", "I look.", (call,)),
        Turn("tool", "noon", call_id="c1"),
        Turn("assistant", "Noon."),
    )
    assert question == "When?"
    assert [(turn.role, turn.text, turn.call_id) for turn in after] == [
        ("assistant", "", ""),
        ("tool", "one", "c3"),
        ("tool", "two", "c2"),
    ]


def test_a_thought_of_an_earlier_answer_is_kept_apart() -> None:
    message = {**assistant("c1"), "reasoning_content": "I need the time."}
    (turn, _) = conversation([USER, message, result("c1")]).after
    assert turn.thought == "I need the time."


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER, result("c1")], "the result for 'c1' answers no call"),
        ([USER, assistant("c1"), result("c2")], "the result for 'c2' answers no call"),
        ([USER, assistant("c1"), result("c1"), result("c1")], "the result for 'c1' answers no call"),
        ([USER, assistant("c1"), USER], "the call 'c1' has no result"),
        ([USER, assistant("c1", "c2"), result("c1")], "the call 'c2' has no result"),
        ([USER, assistant("c1")], "the last message must be the user's"),
        ([assistant("c1"), result("c1")], "there is no message of the user"),
        ([USER, {"role": "tool", "content": "noon"}], "message 1: tool_call_id must be a string"),
        ([USER, assistant("c1", arguments="{"), result("c1")], "the arguments are not JSON"),
        ([USER, assistant("c1", arguments="[]"), result("c1")], "the arguments are not a JSON object"),
        ([USER, {"role": "assistant", "tool_calls": [{"id": "c1"}]}, result("c1")], "must have an id, and a function"),
        ([USER, {"role": "assistant", "tool_calls": "c1"}, result("c1")], "tool_calls must be a list"),
        ([USER, {"role": "assistant", "content": None}, USER], "message 1: content must be a string"),
    ],
)
def test_a_conversation_whose_calls_and_results_do_not_fit_is_refused(messages: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        conversation(messages)


def an_agent(request: GenerationRequest) -> Generation:
    """Call ``add`` once, and answer with its result."""
    results = [turn.text for turn in request.transcript.after if turn.role == "tool"]
    if results:
        return Generation(f"It is {results[-1]}.", "end", Usage(9, 3))
    return Generation("", "end", Usage(9, 3), calls=(ToolCall("", "add", '{"a": 1}'),))


def test_an_agent_calls_a_tool_and_answers_with_its_result(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        models = Models(ModelHandle(ScriptedGenerator(an_agent)))
        messages: list[dict[str, Any]] = [{"role": "user", "content": "1+1?"}]
        async with Arbiter(models=models) as arbiter:
            first = await arbiter.solve(messages, run_type="draft", tools=[ADD])
            assert first.finish_reason == "tool_calls"
            calls: list[dict[str, Any]] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in first.tool_calls
            ]
            assert json.loads(first.tool_calls[0].arguments) == {"a": 1}
            messages += [{"role": "assistant", "content": first.text, "tool_calls": calls}, result(calls[0]["id"], "2")]
            second = await arbiter.solve(messages, run_type="draft", tools=[ADD])
        assert (second.text, second.finish_reason, second.tool_calls) == ("It is 2.", "answered", ())

    in_virtual_time(body)


@pytest.mark.parametrize("question", ["q", [USER, assistant("c1"), result("c1")]])
def test_a_model_that_cannot_be_offered_tools_is_refused_with_the_way_out(
    in_virtual_time: Virtual, question: Any
) -> None:
    async def body() -> None:
        plain = CallingGenerator(ScriptedGenerator(lambda _: "text"), None, "models.draft.prompt: set it")
        async with Arbiter(models=Models(ModelHandle(plain))) as arbiter:
            tools = [ADD] if question == "q" else []
            with pytest.raises(ConfigError, match=r"a model cannot be offered tools\. models\.draft\.prompt: set it"):
                await arbiter.solve(question, run_type="draft", tools=tools)

    in_virtual_time(body)


def test_the_seed_of_a_question_without_tools_is_that_of_earlier_versions(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with Arbiter(models=Models(ModelHandle(ScriptedGenerator(lambda _: "text")))) as arbiter:
            plain, tools = (arbiter.task("q", run_type="draft", tools=tools) for tools in ([], [ADD]))
        assert plain.seed_key == "b29c04660284de51"  # of {"question":"q","steps":[],"turns":[]}
        assert tools.seed_key != plain.seed_key

    in_virtual_time(body)
