"""The template of gpt-oss and the reading of its answers, next to OpenAI's own package for its format.

The package reads its vocabulary from the network or from a folder. litellm carries the same file.
"""

# pyright: basic, reportMissingImports=false

import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("openai_harmony")
import litellm
from openai_harmony import (
    Author,
    Conversation,
    DeveloperContent,
    HarmonyEncoding,
    HarmonyEncodingName,
    Message,
    ReasoningEffort,
    Role,
    SystemContent,
    ToolDescription,
    load_harmony_encoding,
)

import arbiter.pocket
from arbiter.backends.effort_prompts import template_with_efforts
from arbiter.backends.harmony_answers import plain_step
from arbiter.protocols.records import Transcript, Turn
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall
from arbiter.structured.thoughts import divided_answer

TEMPLATE = Path(__file__).parents[1] / "arbiter" / "backends" / "chat_templates" / "gpt-oss.jinja"
SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]}'
VOCABULARY = "fb374d419588a4632f3f557e76b4b70aebbca790"
"""The name of the vocabulary o200k in litellm: the SHA-1 of its address."""


@pytest.fixture(scope="module")
def encoding(tmp_path_factory: pytest.TempPathFactory) -> HarmonyEncoding:
    carried = Path(str(litellm.__file__)).parent / "litellm_core_utils" / "tokenizers" / VOCABULARY
    folder = tmp_path_factory.mktemp("encodings")
    shutil.copy(carried, folder / "o200k_base.tiktoken")
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(folder)
    return load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer") / "gpt-oss"
    pocket = Path(arbiter.pocket.__file__).parent / "models" / "draft"
    shutil.copytree(pocket, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copy(TEMPLATE, folder / "chat_template.jinja")
    return str(folder)


def test_a_conversation_is_written_as_openais_package_writes_it(encoding: HarmonyEncoding, tokenizer: str) -> None:
    turns = (
        Turn("assistant", "", (ToolCall("1", "add", '{"a": 1}'),), thought="I add."),
        Turn("tool", "2", call_id="1"),
    )
    rules = AnswerRules((Tool("add", "Adds.", SCHEMA), Tool("now", "Tells the time.")), effort="low")
    system = (Turn("system", "Be brief."),)
    ours = template_with_efforts("chat", False, tokenizer).render(
        Transcript("1+1?", turns=system, after=turns, rules=rules), "\n\n"
    )
    tools = [
        ToolDescription.new("add", "Adds.", parameters=json.loads(SCHEMA)),
        ToolDescription.new("now", "Tells the time."),
    ]
    call = Message.from_role_and_content(Role.ASSISTANT, '{"a": 1}').with_channel("commentary")
    result = Message.from_author_and_content(Author.new(Role.TOOL, "functions.add"), '"2"')
    conversation = Conversation.from_messages(
        [
            Message.from_role_and_content(
                Role.SYSTEM,
                SystemContent.new()
                .with_reasoning_effort(ReasoningEffort.LOW)
                .with_conversation_start_date("2026-01-01"),
            ),
            Message.from_role_and_content(
                Role.DEVELOPER, DeveloperContent.new().with_instructions("Be brief.").with_function_tools(tools)
            ),
            Message.from_role_and_content(Role.USER, "1+1?"),
            Message.from_role_and_content(Role.ASSISTANT, "I add.").with_channel("analysis"),
            call.with_recipient("functions.add").with_content_type("json"),
            result.with_recipient("assistant").with_channel("commentary"),
        ]
    )
    theirs = encoding.decode_utf8(encoding.render_conversation_for_completion(conversation, Role.ASSISTANT))
    assert ours == theirs


@pytest.mark.parametrize(
    "raw",
    [
        "<|channel|>final<|message|>It is 2.<|return|>",
        "<|channel|>analysis<|message|>We add.\n\nYes.<|end|><|start|>assistant<|channel|>final<|message|>It is 2.",
        "<|channel|>analysis<|message|>We add.<|end|><|start|>assistant<|channel|>commentary to=functions.add "
        '<|constrain|>json<|message|>{"a":1}<|call|>',
        "<|channel|>analysis<|message|>We add.<|end|><|start|>assistant to=functions.add<|channel|>commentary "
        '<|constrain|>json<|message|>{"a":1}<|call|>',
        "<|channel|>commentary<|message|>I add.<|end|><|start|>assistant<|channel|>commentary to=functions.add "
        '<|constrain|>json<|message|>{"a":1}<|call|>',
    ],
)
def test_an_answer_is_read_as_openais_package_reads_it(encoding: HarmonyEncoding, raw: str) -> None:
    tokens = encoding.encode(raw, allowed_special="all")
    messages = encoding.parse_messages_from_completion_tokens(tokens, Role.ASSISTANT, strict=False)
    found = [(message.channel, message.recipient, message.content[0].text) for message in messages]
    answer = divided_answer(plain_step(raw, ""))
    assert answer.reasoning == "".join(text for channel, _, text in found if channel == "analysis")
    called = "".join(
        f"<|channel|>commentary to={recipient} <|constrain|>json<|message|>{text}<|call|>" if recipient else text
        for channel, recipient, text in found
        if channel != "analysis"
    )
    assert answer.content == called
