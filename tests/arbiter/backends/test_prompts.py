"""Rendering a context for a model."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

import arbiter.pocket
from arbiter.backends.prompts import TEMPLATES, PromptTemplate, message_template, prompt_template
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Author, Step, Transcript, Turn
from arbiter.protocols.tools import AnswerRules, Tool

TEMPLATE = PromptTemplate("Problem: {question}\nSolution:\n")
ANNOTATED = PromptTemplate("{question}\n", annotate=True)
TWO_STEPS = Transcript("why?", (Step("first", "draft"), Step("second", "target")))

STEPS = st.lists(st.builds(Step, st.text(max_size=5), st.sampled_from(["draft", "target"])), max_size=4).map(tuple)


@pytest.mark.parametrize("prompt", ["", "no question", "{question} and {question}", "{Question}"])
def test_a_prompt_holds_the_question_exactly_once(prompt: str) -> None:
    with pytest.raises(ConfigError, match="exactly once"):
        PromptTemplate(prompt)


def test_a_context_without_a_step_ends_with_the_template() -> None:
    assert TEMPLATE.render(Transcript("why?"), "\n\n") == "Problem: why?\nSolution:\n"


def test_every_step_is_followed_by_the_separator() -> None:
    assert TEMPLATE.render(TWO_STEPS, "\n\n") == "Problem: why?\nSolution:\nfirst\n\nsecond\n\n"


def test_the_separator_is_the_requests_own() -> None:
    assert TEMPLATE.render(TWO_STEPS, "|") == "Problem: why?\nSolution:\nfirst|second|"


def test_an_annotated_context_names_the_author_of_each_step() -> None:
    assert ANNOTATED.render(TWO_STEPS, ";") == "why?\nModel 0: first;Model 1: second;"


@pytest.mark.parametrize(("author", "number"), [("draft", 0), ("target", 1)])
def test_an_annotated_candidate_is_closed_by_its_separator_and_has_its_author(author: Author, number: int) -> None:
    text = ANNOTATED.render_candidate(TWO_STEPS, "third", author, ";")
    assert text == f"why?\nModel 0: first;Model 1: second;Model {number}: third;"


@pytest.mark.parametrize("question", ["{question}", "{", "{0} % s \\1", "{candidate}"])
def test_a_question_is_written_as_it_is(question: str) -> None:
    assert TEMPLATE.render(Transcript(question), "\n\n") == f"Problem: {question}\nSolution:\n"


def test_braces_of_the_template_stay() -> None:
    template = PromptTemplate("Put it in \\boxed{}. {question}")
    assert template.render(Transcript("why?"), "\n\n") == "Put it in \\boxed{}. why?"


@given(steps=STEPS, annotate=st.booleans(), candidate=st.text(max_size=5))
def test_a_candidate_is_read_after_exactly_the_context_that_it_was_written_for(
    steps: tuple[Step, ...], annotate: bool, candidate: str
) -> None:
    template = PromptTemplate("{question}", annotate)
    context = Transcript("q", steps)
    assert template.render_candidate(context, candidate, "draft", "|").startswith(template.render(context, "|"))


@given(steps=STEPS, annotate=st.booleans(), text=st.text(max_size=5))
def test_a_context_only_grows_at_its_end(steps: tuple[Step, ...], annotate: bool, text: str) -> None:
    template = PromptTemplate("{question}", annotate)
    context = Transcript("q", steps)
    longer = template.render(context.extended(Step(text, "target")), "|")
    assert longer.startswith(template.render(context, "|"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_chosen_by_its_name(name: str) -> None:
    template = prompt_template(name, annotate=True, tokenizer="not read")
    assert (template.before_steps, template.annotate) == (TEMPLATES[name], True)


BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
QWEN3 = f"<|im_start|>user\n1+1?\n\n{BOXED}<|im_end|>\n<|im_start|>assistant\n"
PUBLISHED = {
    "qwen2.5-math": f"<|im_start|>system\n{BOXED}<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n",
    "qwen3": f"{QWEN3}<think>\n\n</think>\n\n",
    "qwen3-thinking": QWEN3,
    "qwen3.5": f"{QWEN3}<think>\n\n</think>\n\n",
    "qwen3.5-thinking": f"{QWEN3}<think>\n",
}
"""What the chat templates in the tokenizers of Qwen2.5-Math-7B-Instruct, Qwen3 and Qwen3.5 (``enable_thinking`` false
and true) make of the question, with the instruction of the model card."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_template_puts_the_question_as_the_model_s_own_does(name: str) -> None:
    template = prompt_template(name, annotate=False, tokenizer="not read")
    assert template.render(Transcript("1+1?"), "\n\n") == PUBLISHED[name]


def test_llama_s_turns_are_those_of_its_own_template() -> None:
    """Except for the system turn with two dates, which the published program leaves out."""
    turns = prompt_template("llama-3", annotate=False, tokenizer="not read").render(Transcript("1+1?"), "\n\n")
    assert turns.startswith("<|start_header_id|>user<|end_header_id|>\n\nSolve the following math problem")
    assert turns.endswith("Problem: 1+1?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")


def test_a_text_with_the_question_in_it_is_a_template_of_its_own() -> None:
    assert prompt_template("Q: {question}\n", annotate=False, tokenizer="").before_steps == "Q: {question}\n"


def test_a_name_that_no_template_has_is_refused_with_those_there_are() -> None:
    known = "qwen2.5-math, llama-3, qwen3, qwen3-thinking, qwen3.5, qwen3.5-thinking, plain, chat"
    with pytest.raises(ConfigError, match=rf"'qwen' is not the name of a template \(there are {known}\)"):
        prompt_template("qwen", annotate=False, tokenizer="")


def test_chat_is_the_tokenizers_own_template_with_the_question_in_it() -> None:
    models = Path(arbiter.pocket.__file__).parent / "models"
    template = prompt_template("chat", annotate=False, tokenizer=str(models / "draft"))
    told = "Please reason step by step, and put your final answer within \\boxed{}."
    reader: Any = AutoTokenizer  # typed in part
    expected = reader.from_pretrained(models / "draft").apply_chat_template(
        [{"role": "user", "content": f"What?\n\n{told}"}], tokenize=False, add_generation_prompt=True
    )
    assert template.render(Transcript("What?"), "\n\n") == expected


def test_a_tokenizer_that_cannot_be_read_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Set tokenizer to a folder or a hub name, or name a template"):
        prompt_template("chat", annotate=False, tokenizer=str(tmp_path))


@pytest.mark.parametrize(
    ("prompt", "opens"),
    [
        ("{question}\n<think>\n", True),
        ("<think>{question}\n", False),
        ("{question}", False),
        ("qwen3", False),
        ("qwen3-thinking", False),
        ("qwen3.5", False),
        ("qwen3.5-thinking", True),
    ],
)
def test_a_template_opens_a_thought_that_it_does_not_close(prompt: str, opens: bool) -> None:
    assert prompt_template(prompt, False, "no tokenizer").opens_thought == opens


SCHEMA = '{"type": "object"}'
ASKED = f"why?\n\nAnswer with one JSON value that fits this JSON schema, and with nothing else:\n{SCHEMA}"
FITTING = AnswerRules(schema=SCHEMA)
TOOL = AnswerRules((Tool("add"),), schema=SCHEMA)


@pytest.mark.parametrize(
    ("prompt", "before", "after"),
    [
        ("{question}\n", "", "\n"),
        ("plain", "", "\n"),
        ("qwen2.5-math", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
        ("qwen3", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("qwen3-thinking", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
        ("qwen3.5-thinking", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n<think>\n"),
    ],
)
def test_a_schema_follows_the_question_in_place_of_the_templates_instructions(
    prompt: str, before: str, after: str
) -> None:
    template = prompt_template(prompt, False, "not read")
    assert template.render(Transcript("why?", rules=FITTING), "\n\n") == f"{before}{ASKED}{after}"
    assert "JSON" not in template.render(Transcript("why?"), "\n\n")


@pytest.mark.parametrize("prompt", ["qwen3", "qwen2.5-math"])
@pytest.mark.parametrize("turns", [(), (Turn("system", "Be brief."),), (Turn("user", "hi"), Turn("assistant", "ho"))])
def test_with_tools_and_a_schema_the_template_describes_both(prompt: str, turns: tuple[Turn, ...]) -> None:
    text = prompt_template(prompt, False, "not read").render(Transcript("why?", turns=turns, rules=TOOL), "\n\n")
    assert f"user\n{ASKED}<|im_end|>" in text
    assert text.count("<|im_start|>system\n") == 1
    assert text.startswith("<|im_start|>system\n")
    assert text.index("# Tools") < text.index("<|im_start|>user")
    assert "boxed" not in text


@pytest.mark.parametrize(("prompt", "message"), [("chat", ASKED), ("Q: {question}\nA:", f"Q: {ASKED}\nA:")])
def test_a_message_to_a_host_has_the_schema_in_place_of_a_box(prompt: str, message: str) -> None:
    assert message_template(prompt, False).message(Transcript("why?", rules=FITTING)) == message
    instructions = (Turn("system", "Be brief."),)
    assert message_template(prompt, False).message(Transcript("why?", turns=instructions, rules=FITTING)) == ASKED


@pytest.mark.parametrize(
    ("prompt", "thinks"), [("qwen3", False), ("qwen3-thinking", True), ("qwen2.5-math", False), ("{question}", False)]
)
def test_a_template_says_whether_its_model_may_open_a_thought(prompt: str, thinks: bool) -> None:
    assert prompt_template(prompt, False, "not read").thinks == thinks
