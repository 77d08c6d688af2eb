"""Conversations with tools, in the templates of models.

The templates ``qwen2.5-tools`` and ``mistral-tools`` are written from the published format of Qwen2.5-Instruct (with
Qwen2.5-Math's instruction) and of Mistral 7B v0.3.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import arbiter.pocket
from arbiter.backends.prompts import PromptTemplate, prompt_template
from arbiter.backends.tokenizers import read_tokenizer
from arbiter.backends.tool_turns import chat_messages_of
from arbiter.protocols.errors import ConfigError, ConversationError
from arbiter.protocols.records import Transcript, Turn
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall

TEMPLATES = Path(__file__).parent / "chat_templates"
SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}}}'
RULES = AnswerRules((Tool("add", "Adds.", SCHEMA), Tool("now")))
TEXT = st.sampled_from(["1+1?", "{question}", "", "two\nlines", "{", "<tool_call>"])


def call(name: str, a: int) -> ToolCall:
    return ToolCall(f"call_{a}", name, json.dumps({"a": a}))


def in_a_row(text: str, calls: list[ToolCall], results: list[str]) -> tuple[Turn, ...]:
    """A turn with calls, and their results."""
    found = [Turn("tool", result, call_id=call.id) for call, result in zip(calls, results, strict=False)]
    return (Turn("assistant", text, tuple(calls)), *found)


CALLS = st.lists(st.builds(call, st.sampled_from(["add", "now"]), st.integers(0, 9)), min_size=1, max_size=2)
ROUND = st.builds(in_a_row, TEXT, CALLS, st.lists(TEXT, min_size=2, max_size=2))
TALK = st.lists(ROUND, max_size=2).map(lambda rounds: tuple(turn for one in rounds for turn in one))


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return the folder of a tokenizer with the template of that name."""
    pocket, folder = Path(arbiter.pocket.__file__).parent / "models" / "draft", tmp_path_factory.mktemp("tokenizers")

    def make(name: str) -> str:
        if not (folder / name).is_dir():
            shutil.copytree(pocket, folder / name, ignore=shutil.ignore_patterns("*.safetensors"))
            shutil.copy(TEMPLATES / f"{name}.jinja", folder / name / "chat_template.jinja")
        return str(folder / name)

    return make


@pytest.fixture(scope="module")
def qwen(named: Callable[[str], str]) -> Callable[..., str]:
    reader = read_tokenizer(named("qwen2.5-tools"), "a test", "do without")

    def apply(transcript: Transcript) -> str:
        tools: list[dict[str, Any]] = [
            {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": json.loads(SCHEMA)}},
            {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
        ]
        turns = (*transcript.turns, Turn("user", transcript.question), *transcript.after)
        messages: list[dict[str, Any]] = [
            {"role": turn.role, "content": turn.text}
            | (
                {
                    "tool_calls": [
                        {"function": {"name": call.name, "arguments": json.loads(call.arguments)}}
                        for call in turn.calls
                    ]
                }
                if turn.calls
                else {}
            )
            for turn in turns
        ]
        return reader.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, tools=tools if transcript.rules else None
        )

    return apply


@pytest.mark.parametrize("system", [(), (Turn("system", "Be brief."),)])
@given(before=TALK, after=TALK, question=TEXT, rules=st.sampled_from([None, RULES]))
def test_tools_calls_and_results_are_written_as_qwen25_does(
    qwen: Callable[..., str],
    system: tuple[Turn, ...],
    before: tuple[Turn, ...],
    after: tuple[Turn, ...],
    question: str,
    rules: AnswerRules | None,
) -> None:
    turns = (*system, *((Turn("user", "First?"), *before, Turn("assistant", "Done.")) if before else ()))
    transcript = Transcript(question, (), turns, after, rules)
    written = prompt_template("qwen2.5-math", annotate=False, tokenizer="not read").render(transcript, "\n\n")
    assert written == qwen(transcript)


def test_the_tokenizers_own_template_gets_tools_calls_and_results(
    named: Callable[[str], str], qwen: Callable[..., str]
) -> None:
    call = ToolCall("call_1", "add", '{"a": 1}')
    after = (Turn("assistant", "", (call,)), Turn("tool", "2", call_id="call_1"))
    transcript = Transcript("1+1?", (), (Turn("system", "Be brief."),), after, RULES)
    template = prompt_template("chat", annotate=False, tokenizer=named("qwen2.5-tools"))
    assert template.calls == "hermes"
    assert template.render(transcript, "\n\n") == qwen(transcript)


def test_ids_have_the_form_that_mistrals_template_demands(named: Callable[[str], str]) -> None:
    call = ToolCall("call_0123456789", "add", '{"a": 1}')
    after = (Turn("assistant", "", (call,)), Turn("tool", "2", call_id=call.id))
    template = prompt_template("chat", annotate=False, tokenizer=named("mistral-tools"))
    assert template.calls == "mistral"
    text = template.render(Transcript("1+1?", (), (), after, RULES), "\n\n")
    (made,) = json.loads(text.partition("[TOOL_CALLS] ")[2].partition("]")[0] + "]")
    assert (made["name"], made["arguments"]) == ("add", {"a": 1})
    assert f'"call_id": "{made["id"]}"' in text
    assert "AVAILABLE_TOOLS" in text


def test_llamas_template_gets_one_call_per_message_before_its_result() -> None:
    first, second = call("add", 1), call("now", 2)
    results = [Turn("tool", text, call_id=one) for text, one in (("b", second.id), ("a", first.id), ("?", "lost"))]
    turns = (Turn("assistant", "I add.", (first, second)), *results, Turn("user", "And?"))
    messages = chat_messages_of(turns, "llama-3")
    assert all(len(message.get("tool_calls", ())) <= 1 for message in messages)
    assert [message["content"] for message in messages] == ["I add.", "a", "", "b", "?", "And?"]
    assert [message["tool_calls"][0]["id"] for message in messages if "tool_calls" in message] == [first.id, second.id]
    assert [message["content"] for message in chat_messages_of(turns, "hermes")] == ["I add.", "b", "a", "?", "And?"]


def test_a_thought_goes_before_the_calls_that_followed_it() -> None:
    turn = Turn("assistant", "", (ToolCall("c", "now", "{}"),), thought="I need the time.")
    template = prompt_template("qwen3-thinking", annotate=False, tokenizer="not read")
    text = template.render(Transcript("When?", (), (), (turn, Turn("tool", "noon", call_id="c")), RULES), "\n\n")
    assert '<|im_start|>assistant\n<think>\nI need the time.\n</think>\n\n<tool_call>\n{"name": "now"' in text
    assert text.endswith("<tool_response>\nnoon\n</tool_response><|im_end|>\n<|im_start|>assistant\n")


def test_tools_that_may_not_be_called_are_not_described() -> None:
    template = prompt_template("qwen3", annotate=False, tokenizer="not read")
    forbidden = Transcript("q", rules=AnswerRules(RULES.tools, "none"))
    assert template.render(forbidden, "\n\n") == template.render(Transcript("q"), "\n\n")


@pytest.mark.parametrize("prompt", ["llama-3", "plain", "Q: {question}\n"])
def test_a_template_without_a_form_has_calls_as_json_text(prompt: str) -> None:
    call = ToolCall("c", "add", '{"a": 1}')
    after = (Turn("assistant", "I add.", (call,)), Turn("tool", "the result", call_id="c"))
    template = prompt_template(prompt, annotate=False, tokenizer="not read")
    text = template.render(Transcript("1+1?", (), (), after, RULES), "\n\n")
    assert template.calls is None
    assert 'I add.\n{"name": "add", "arguments": {"a": 1}}' in text
    assert text.index("1+1?") < text.index("I add.") < text.index("the result")


def test_the_form_of_a_chat_template_can_be_named(named: Callable[[str], str]) -> None:
    template = prompt_template("chat", False, named("qwen3"), calls="qwen-coder")
    assert template.calls == "qwen-coder"
    with pytest.raises(ConfigError, match='calls = "hermes" is for models whose prompt is "chat"'):
        prompt_template("plain", False, "not read", calls="hermes")


def test_a_conversation_without_tools_is_written_as_it_always_was(named: Callable[[str], str]) -> None:
    for prompt, tokenizer in (("qwen3", "not read"), ("chat", named("qwen3"))):
        template: PromptTemplate = prompt_template(prompt, False, tokenizer)
        with_turns = Transcript("q", (), (Turn("user", "a"), Turn("assistant", "b")))
        assert "tool" not in template.render(with_turns, "\n\n")


@pytest.mark.parametrize(
    "transcript", [Transcript("1+1?", rules=RULES), Transcript("1+1?", after=in_a_row("", [call("add", 1)], ["2"]))]
)
def test_a_chat_template_without_a_place_for_tools_drops_none_in_silence(
    transcript: Transcript, tmp_path: Path
) -> None:
    pocket = Path(arbiter.pocket.__file__).parent / "models" / "draft"
    shutil.copytree(pocket, tmp_path / "plain", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "plain" / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )
    template = prompt_template("chat", False, str(tmp_path / "plain"), calls="hermes")
    assert "1+1?" in template.render(Transcript("1+1?"), "\n\n")
    with pytest.raises(ConversationError, match="leaves out the tool add: it has no place for tools"):
        template.render(transcript, "\n\n")
