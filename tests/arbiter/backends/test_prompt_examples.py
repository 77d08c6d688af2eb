"""System prompts and solved examples in the prompts of the models that write."""

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from arbiter.backends.prompts import PromptTemplate, message_template, prompt_template
from arbiter.backends.served.chat_hosts import chat_messages
from arbiter.config.config import Config, load_config, parse
from arbiter.config.model_tables import AnyModelTable
from arbiter.log.identity import differences, identity
from arbiter.pocket import MODELS
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Step, Transcript, Turn

EXAMPLE = {"question": "1+1?", "answer": "It is two.\n\nAnswer: 2"}
ASKED = Transcript("2+3?", (Step("Five.", "draft"),))


def config(**draft: Any) -> Config:
    table = {"model": "nowhere", "prompt": "plain", **draft}
    return parse({"run_type": "draft", "models": {"draft": table}}, "test")


def table(**keys: Any) -> AnyModelTable:
    found = config(**keys).models.draft
    assert found is not None
    return found


def template(prompt: str, **keys: Any) -> PromptTemplate:
    return prompt_template(prompt, False, str(MODELS / "draft"), table(**keys).turns)


def test_in_a_text_each_example_is_a_question_of_its_own() -> None:
    text = template("Q: {question}\nA: ", system="Be brief.", examples=[EXAMPLE]).render(ASKED, "\n\n")
    assert text == "Be brief.\n\nQ: 1+1?\nA: It is two.\n\nAnswer: 2\n\nQ: 2+3?\nA: Five.\n\n"


def test_in_the_markup_of_a_family_they_are_turns_and_instructions_replace_its_own() -> None:
    both = template("qwen2.5-math", system="Be brief.", examples=[EXAMPLE]).render(ASKED, "\n\n")
    assert both == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
        "<|im_start|>assistant\nIt is two.\n\nAnswer: 2<|im_end|>\n<|im_start|>user\n2+3?<|im_end|>\n"
        "<|im_start|>assistant\nFive.\n\n"
    )
    shots = template("qwen2.5-math", examples=[EXAMPLE]).render(ASKED, "\n\n")
    assert shots.startswith("<|im_start|>system\nPlease reason step by step")
    assert shots.count("Please reason step by step") == 1


def test_in_a_chat_template_they_are_turns() -> None:
    text = template("chat", examples=[EXAMPLE]).render(ASKED, "\n\n")
    assert text.startswith("Problem: 1+1?\nSolution:\nIt is two.\n\nAnswer: 2\n\nProblem: 2+3?")
    assert text.endswith("Solution:\nFive.\n\n")


def test_a_host_of_chat_completions_gets_them_as_messages() -> None:
    found = message_template("chat", False, table(system="Be brief.", examples=[EXAMPLE]).turns)
    assert chat_messages(found, Transcript("2+3?")) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "It is two.\n\nAnswer: 2"},
        {"role": "user", "content": "2+3?"},
    ]


@pytest.mark.parametrize("prompt", ["Q: {question}\n", "qwen3", "chat"])
def test_instructions_of_a_conversation_replace_those_of_the_configuration(prompt: str) -> None:
    found = template(prompt, system="Be brief.", examples=[EXAMPLE])
    asked = Transcript("2+3?", (), (Turn("system", "Be long."), Turn("user", "Hello."), Turn("assistant", "Hi.")))
    if prompt == "chat":  # this template drops instructions
        assert [turn.text for turn in found.turns_of(asked)] == ["Be long.", "1+1?", EXAMPLE["answer"], "Hello.", "Hi."]
        return
    text = found.render(asked, "\n\n")
    assert "Be brief." not in text
    assert text.index("1+1?") < text.index("Hello.") < text.index("2+3?")
    assert text.count("Be long.") == 1


def test_a_prompt_without_them_stays_as_it_is() -> None:
    assert template("qwen3") == prompt_template("qwen3", False, "")


def test_a_file_of_examples_is_read_with_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "shots.jsonl").write_text('{"question": "1+1?", "answer": "It is two.\\n\\nAnswer: 2"}\n\n')
    model = {"model": "nowhere", "prompt": "plain", "examples": "shots.jsonl"}
    (tmp_path / "mine.toml").write_text(tomli_w.dumps({"run_type": "draft", "models": {"draft": model}}))
    assert load_config(str(tmp_path / "mine.toml")) == config(examples=[EXAMPLE])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}\n[1]\n", "models.draft.examples: {file}, line 2: not a JSON object"),
        ('{"question": "1+1?"}\n', "models.draft.examples[0]: Object missing required field `answer`"),
        (
            '{"question": "1+1?", "anser": "2"}\n',
            "unknown key 'models.draft.examples[0].anser'; did you mean 'answer'?",
        ),
        ('{"question": 1, "answer": "2"}\n', "models.draft.examples[0].question: Expected `str`, got `int`"),
        (None, "models.draft.examples: there is no file or folder {file}; did you mean {file}s?"),
    ],
)
def test_what_is_wrong_in_a_file_names_the_key(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "shots.json"
    (tmp_path / "shots.jsons").touch()
    if content is not None:
        file.write_text(content)
    model = {"model": "nowhere", "prompt": "plain", "examples": "shots.json"}
    (tmp_path / "mine.toml").write_text(tomli_w.dumps({"models": {"draft": model}}))
    with pytest.raises(ConfigError) as error:
        load_config(str(tmp_path / "mine.toml"))
    assert message.format(file=file) in str(error.value)


@pytest.mark.parametrize("role", ["prm", "router", "judge"])
def test_models_that_score_have_none(role: str) -> None:
    model = {"model": "nowhere", "prompt": "{question}", "system": "Be brief."}
    with pytest.raises(ConfigError, match=rf"models\.{role}: only models that write steps have system and examples"):
        parse({"models": {role: model}}, "test")


def test_a_head_on_the_draft_refuses_them() -> None:
    models = {
        "draft": {"model": "nowhere", "prompt": "plain", "examples": [EXAMPLE]},
        "router": {"backend": "draft-head", "model": "pocket:draft-head"},
    }
    with pytest.raises(
        ConfigError, match=r"models\.router: a head on the draft was trained without system and examples"
    ):
        parse({"models": models}, "test")


def test_they_belong_to_the_identity_of_a_run_and_a_run_without_them_keeps_its_identity() -> None:
    plain, changed = identity(config(), ()), identity(config(system="Be brief.", examples=[EXAMPLE]), ())
    assert not [key for key in plain if key.endswith((".system", ".examples"))]
    assert [line.partition(":")[0] for line in differences(plain, changed)] == [
        "models.draft.examples",
        "models.draft.system",
    ]
