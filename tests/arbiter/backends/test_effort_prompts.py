"""Prompts that request how much a model thinks.

The templates are written from published formats: ``qwen3`` that of Qwen3, the others those of gpt-oss (levels), of
DeepSeek-V3.1 (a switch that opens the thought), of a model that knows only some levels, and of R1 (no switch).
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import arbiter.pocket
from arbiter.backends.effort_prompts import template_with_efforts
from arbiter.backends.prompts import TEMPLATES, PromptTemplate, prompt_template
from arbiter.protocols.records import Transcript, Turn
from arbiter.protocols.tools import AnswerRules, Effort

TURNS = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
WRITTEN = {
    "levels": "Reasoning: {{ reasoning_effort | default('medium') }}\n" + TURNS + "<assistant>",
    "switch": TURNS + "<assistant>{% if thinking %}<think>{% else %}</think>{% endif %}",
    "some-levels": (
        "{% if reasoning_effort is defined and reasoning_effort not in ['none', 'high'] %}"
        "{{ raise_exception('unknown effort') }}{% endif %}"
        "{{ reasoning_effort | default('none') }}" + TURNS + "<assistant>"
    ),
    "always": TURNS + "<assistant><think>\n",
    "never": TURNS + "<assistant>",
}
QUESTION = Transcript("1+1?")
TALK = Transcript("1+1?", turns=(Turn("user", "Hello."), Turn("assistant", "Hi.")))


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PromptTemplate]:
    """Return the chat template of that name."""
    pocket, folder = Path(arbiter.pocket.__file__).parent / "models" / "draft", tmp_path_factory.mktemp("tokenizers")

    def make(name: str) -> PromptTemplate:
        if not (folder / name).is_dir():
            shutil.copytree(pocket, folder / name, ignore=shutil.ignore_patterns("*.safetensors"))
            stored = Path(__file__).parent / "chat_templates" / f"{name}.jinja"
            text = WRITTEN[name] if name in WRITTEN else stored.read_text(encoding="utf-8")
            (folder / name / "chat_template.jinja").write_text(text, encoding="utf-8")
        return template_with_efforts("chat", False, str(folder / name))

    return make


def rendered(template: PromptTemplate, effort: Effort | None, transcript: Transcript = QUESTION) -> str:
    rules = None if effort is None else AnswerRules(effort=effort)
    return template.render(Transcript(transcript.question, turns=transcript.turns, rules=rules), "\n\n")


@pytest.mark.parametrize(
    ("name", "efforts", "thinks", "opens"),
    [
        ("qwen3", {"none": False, "minimal": False, "medium": False}, True, False),
        ("switch", {"none": False, "minimal": False, "medium": True}, False, False),
        ("levels", {"low": False, "medium": False, "high": False}, False, False),
        ("some-levels", {"high": False}, False, False),
        ("always", {}, False, True),
        ("never", {"none": False}, False, False),
    ],
)
def test_a_chat_template_takes_the_efforts_that_change_its_prompt(
    named: Callable[[str], PromptTemplate], name: str, efforts: dict[Effort, bool], thinks: bool, opens: bool
) -> None:
    template = named(name)
    assert (template.opens_at_effort, template.opens_thought) == (efforts, opens)
    assert template.thinks == thinks


@pytest.mark.parametrize("transcript", [QUESTION, TALK])
def test_an_effort_is_requested_as_the_template_says(
    named: Callable[[str], PromptTemplate], transcript: Transcript
) -> None:
    assert rendered(named("qwen3"), "none", transcript).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert rendered(named("qwen3"), "medium", transcript) == rendered(named("qwen3"), None, transcript)
    assert rendered(named("levels"), "high", transcript).startswith("Reasoning: high\n")
    assert rendered(named("levels"), None, transcript).startswith("Reasoning: medium\n")
    assert rendered(named("switch"), "medium", transcript).endswith("<assistant><think>")
    assert rendered(named("switch"), "none", transcript).endswith("<assistant></think>")


@pytest.mark.parametrize("family", ["qwen3", "qwen3.5"])
@pytest.mark.parametrize("kind", ["", "-thinking"])
@pytest.mark.parametrize(("effort", "same"), [("none", ""), ("minimal", ""), ("medium", "-thinking"), (None, None)])
@pytest.mark.parametrize("transcript", [QUESTION, TALK])
def test_the_templates_of_qwen_replace_each_other(
    family: str, kind: str, effort: Effort | None, same: str | None, transcript: Transcript
) -> None:
    template = template_with_efforts(family + kind, False, "not read")
    expected = prompt_template(family + (kind if same is None else same), False, "not read")
    assert rendered(template, effort, transcript) == rendered(expected, None, transcript)


@pytest.mark.parametrize("prompt", [*TEMPLATES, "Q: {question}\n"])
def test_other_named_templates_know_that_they_request_no_thought_and_texts_know_nothing(prompt: str) -> None:
    efforts = template_with_efforts(prompt, False, "not read").opens_at_effort
    known = {"qwen2.5-math": ["none"], "llama-3": ["none"]}
    switched = ["none", "minimal", "medium"] if prompt.startswith("qwen3") else []
    assert list(efforts) == known.get(prompt, switched)
