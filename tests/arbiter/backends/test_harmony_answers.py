"""Models that write harmony, as gpt-oss does: their thoughts, contents and calls are those of other models.

The template ``gpt-oss`` is written from the published format. ``tests/frameworks/test_harmony.py`` compares what is
written and read here with the package ``openai-harmony``.
"""

import json
import shutil
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arbiter.pocket
from arbiter.backends.call_formats.forms import FORMS
from arbiter.backends.calling import CallingGenerator
from arbiter.backends.effort_prompts import template_with_efforts
from arbiter.backends.harmony_answers import HarmonyGenerator, harmony_of, plain_step
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.model_traits import RefusesLogprobs
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal
from arbiter.protocols.records import Step, StopReason, Transcript, Turn, Usage
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall

THOUGHT, NEXT, FINAL = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant", "<|channel|>final<|message|>"
HEADER = "<|channel|>commentary to=functions.add <|constrain|>json<|message|>"
CALL = HEADER + '{"a": 1}<|call|>'
SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
RULES = AnswerRules((Tool("add", "Adds.", SCHEMA), Tool("now", "Tells the time.")))
POCKET = Path(arbiter.pocket.__file__).parent / "models" / "draft"


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("", ""),
        ("Hi", "Hi"),
        (f"{FINAL}Hi", "Hi"),
        (f"{FINAL}Hi<|return|>", "Hi"),
        (f"{THOUGHT}So", "<think>So"),
        (f"{THOUGHT}So<|end|>", "<think>So"),
        (f"{THOUGHT}So{NEXT}<|channel|>fi", "<think>So"),
        (f"{THOUGHT}So{NEXT} to=functions.a", "<think>So"),
        (f"{THOUGHT}So{NEXT}{FINAL}", "<think>So</think>"),
        (f"{THOUGHT}So{NEXT}{FINAL}It is 2.", "<think>So</think>It is 2."),
        (f"{THOUGHT}So{NEXT}{THOUGHT}and so{NEXT}{FINAL}It is 2.", "<think>So\nand so</think>It is 2."),
        (f"{THOUGHT}So{NEXT}{CALL}", f"<think>So</think>{CALL}"),
        (
            f'{THOUGHT}So{NEXT} to=functions.add<|channel|>commentary json<|message|>{{"a": 1}}<|call|>',
            f"<think>So</think>{CALL}",
        ),
        (f"<|channel|>commentary<|message|>I add.{NEXT}{CALL}", f"I add.{CALL}"),
        (f"{FINAL}It is 2.{NEXT}{THOUGHT}Or not.", "It is 2."),
        (f'{THOUGHT}So{NEXT}{{"sum": 2}}', '<think>So</think>{"sum": 2}'),
    ],
)
def test_the_messages_of_an_answer_are_a_thought_a_content_and_calls(raw: str, plain: str) -> None:
    assert plain_step(raw, "") == plain


@pytest.mark.parametrize(("ending", "whole"), [(True, CALL), (False, CALL.removesuffix("<|call|>"))])
def test_a_call_is_whole_where_the_model_ends_with_it(ending: bool, whole: str) -> None:
    assert plain_step(CALL.removesuffix("<|call|>"), "", is_whole=ending) == whole


WORDS = st.lists(st.sampled_from(["a", "b c", "\n", "\n\n", "{", "é"]), min_size=1, max_size=4).map("".join)


@given(thought=WORDS | st.none(), content=WORDS, call=st.booleans(), cut=st.floats(0, 1))
def test_an_answer_is_the_same_wherever_its_steps_end(
    thought: str | None, content: str, call: bool, cut: float
) -> None:
    end = f"<|channel|>commentary<|message|>{content}{NEXT}{CALL}" if call else FINAL + content
    raw = end if thought is None else THOUGHT + thought + NEXT + end
    plain = plain_step(raw, "")
    assert plain == ("" if thought is None else f"<think>{thought}</think>") + content + (CALL if call else "")
    before = plain[: int(cut * len(plain))]
    written = harmony_of(before)
    if raw.startswith(written):
        assert before + plain_step(raw[len(written) :], before) == plain


def request(*steps: str, rules: AnswerRules | None = RULES, proposal: Proposal | None = None) -> GenerationRequest:
    context = Transcript("q", tuple(Step(step, "target") for step in steps), rules=rules)
    return GenerationRequest("p", len(steps), 0, "target", context, "\n\n", 50, 0.0, 1.0, 0, proposal=proposal)


def written(asked: GenerationRequest, *answers: tuple[str, StopReason]) -> Generation:
    left = [Generation(text, reason, Usage(1, 1)) for text, reason in answers]
    model = ScriptedGenerator(lambda _: left.pop(0))
    return anyio.run(CallingGenerator(HarmonyGenerator(model), FORMS["harmony"], thinks=True).generate, asked)


def test_a_call_after_a_thought_is_read_and_its_step_has_the_end_of_the_thought() -> None:
    answer = written(request("<think>First"), (f"So{NEXT}{CALL.removesuffix('<|call|>')}", "end"))
    assert (answer.text, answer.calls) == ("So</think>", (ToolCall("", "add", '{"a": 1}'),))


def test_a_separator_in_the_arguments_does_not_end_a_call() -> None:
    answer = written(request(), (f"{THOUGHT}So{NEXT}{HEADER}{{", "separator"), ('"a": 1}', "end"))
    assert (answer.text, answer.calls) == ("<think>So</think>", (ToolCall("", "add", '{\n\n"a": 1}'),))


def test_no_proposal_is_shown_and_no_log_probability_can_be_requested() -> None:
    shown: list[Proposal | None] = []

    def write(asked: GenerationRequest) -> str:
        shown.append(asked.proposal)
        return "So"

    model = HarmonyGenerator(ScriptedGenerator(write))
    anyio.run(model.generate, request(proposal=Proposal("<think>So", "separator")))
    assert shown == [None]
    assert isinstance(model, RefusesLogprobs)
    assert model.without_logprobs


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> PromptTemplate:
    folder = tmp_path_factory.mktemp("tokenizer") / "gpt-oss"
    shutil.copytree(POCKET, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copy(Path(__file__).parent / "chat_templates" / "gpt-oss.jinja", folder / "chat_template.jinja")
    return template_with_efforts("chat", False, str(folder))


def test_the_template_of_gpt_oss_is_known_by_its_channels(template: PromptTemplate) -> None:
    assert (template.calls, template.thinks, template.opens_thought) == ("harmony", True, False)
    assert template.opens_at_effort == {"low": False, "medium": False, "high": False}


def test_the_steps_so_far_are_written_in_channels(template: PromptTemplate) -> None:
    empty = template.render(Transcript("1+1?"), "\n\n")
    assert empty.endswith("<|end|><|start|>assistant")
    steps = (Step("<think>One.", "draft"), Step("Two.</think>It is", "target"), Step("2.", "draft"))
    assert template.render(Transcript("1+1?", steps), "\n\n") == (
        f"{empty}{THOUGHT}One.\n\nTwo.{NEXT}{FINAL}It is\n\n2.\n\n"
    )


def test_a_history_with_calls_is_written_with_its_thoughts(template: PromptTemplate) -> None:
    turns = (
        Turn("assistant", "I add.", (ToolCall("1", "add", '{"a": 1}'), ToolCall("2", "now", "{}")), thought="So."),
        Turn("tool", "2", call_id="1"),
        Turn("tool", "noon", call_id="2"),
    )
    text = template.render(Transcript("1+1?", after=turns, rules=RULES), "\n\n")
    _, _, history = text.partition("1+1?<|end|>")
    call = "<|start|>assistant to=functions.{}<|channel|>commentary json<|message|>{}<|call|>"
    result = "<|start|>functions.{} to=assistant<|channel|>commentary<|message|>{}<|end|>"
    assert history == "".join(
        [
            f"<|start|>assistant{THOUGHT}So.\n\nI add.<|end|>",
            call.format("add", json.dumps({"a": 1})),
            result.format("add", '"2"'),
            call.format("now", "{}"),
            result.format("now", '"noon"'),
            "<|start|>assistant",
        ]
    )
