"""Rendering the turns of a conversation before the question."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import arbiter.pocket
from arbiter.backends.conversations import TokenizerConversation, chat_text
from arbiter.backends.judge_prompts import JudgePrompt
from arbiter.backends.prompts import FAMILIES, TEMPLATES, PromptTemplate, prompt_template
from arbiter.backends.tokenizers import read_tokenizer
from arbiter.protocols.errors import ConversationError
from arbiter.protocols.records import Author, Step, Transcript, Turn

Named = Callable[[str], str]

PUBLISHED = Path(__file__).parent / "chat_templates"
"""Chat templates as published with Qwen2.5-Math-7B-Instruct, Qwen3, Meta-Llama-3-8B-Instruct and Llama-3.1-8B-Instruct,
without the parts for tools, and one that refuses conversations as Gemma's and Mistral's do."""

DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."

SPOKEN = st.lists(st.sampled_from(["{question}", "{", "<|im_end|>", "\n", "1+1?", "é", "a b"]), max_size=4).map("".join)
EARLIER = st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), SPOKEN), min_size=1, max_size=4).map(tuple)
INSTRUCTED = st.tuples(st.builds(Turn, st.just("system"), SPOKEN), EARLIER).map(lambda both: (both[0], *both[1]))
STEPS = st.lists(st.builds(Step, st.text(max_size=5), st.sampled_from(["draft", "target"])), max_size=3).map(tuple)

TALK = (Turn("user", "1+1?"), Turn("assistant", "2."))
TOLD = (Turn("system", "Be brief."), *TALK)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Named:
    """Return the folder of a tokenizer with a published chat template, by its name here."""
    pocket, folder = Path(arbiter.pocket.__file__).parent / "models" / "draft", tmp_path_factory.mktemp("tokenizers")
    for template in PUBLISHED.glob("*.jinja"):
        own = folder / template.stem
        own.mkdir()
        inner: Any = Tokenizer.from_file(str(pocket / "tokenizer.json"))
        inner.add_special_tokens(["<|bos|>"])
        start = ("<|bos|>", inner.token_to_id("<|bos|>"))
        inner.post_processor = processors.TemplateProcessing("<|bos|> $A", special_tokens=[start])
        inner.save(str(own / "tokenizer.json"))
        settings = json.loads((pocket / "tokenizer_config.json").read_text(encoding="utf-8"))
        changed = json.dumps({**settings, "bos_token": "<|bos|>"})
        (own / "tokenizer_config.json").write_text(changed, encoding="utf-8")
        shutil.copy(template, own / "chat_template.jinja")
    return lambda name: str(folder / name)


@pytest.fixture(scope="module")
def published(named: Named) -> Callable[..., str]:
    """Return turns and a question in a published template, without the beginning-of-text token."""
    readers = {path.stem: read_tokenizer(named(path.stem), "a test", "do without") for path in PUBLISHED.iterdir()}

    def apply(name: str, turns: tuple[Turn, ...], question: str, **options: Any) -> str:
        messages = [{"role": turn.role, "content": turn.text} for turn in (*turns, Turn("user", question))]
        text = readers[name].apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
        return text.removeprefix("<|bos|>")

    return apply


def written(prompt: str, turns: tuple[Turn, ...], question: str, tokenizer: str = "not read") -> str:
    return prompt_template(prompt, annotate=False, tokenizer=tokenizer).render(Transcript(question, (), turns), "\n\n")


def stripped(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    return tuple(Turn(turn.role, turn.text.strip()) for turn in turns)


@given(turns=INSTRUCTED, question=SPOKEN)
def test_with_instructions_of_its_own_a_conversation_is_written_as_qwen25_does(
    published: Callable[..., str], turns: tuple[Turn, ...], question: str
) -> None:
    assert written("qwen2.5-math", turns, question) == published("qwen2.5-math", turns, question)


@given(turns=EARLIER, question=SPOKEN)
def test_without_instructions_qwen25_math_has_its_own_once_at_the_top(
    published: Callable[..., str], turns: tuple[Turn, ...], question: str
) -> None:
    assert written("qwen2.5-math", turns, question) == published("qwen2.5-math", turns, question)


@pytest.mark.parametrize(("prompt", "thinks"), [("qwen3", False), ("qwen3-thinking", True)])
@given(turns=INSTRUCTED, question=SPOKEN)
def test_with_instructions_of_its_own_a_conversation_is_written_as_qwen3_does(
    published: Callable[..., str], prompt: str, thinks: bool, turns: tuple[Turn, ...], question: str
) -> None:
    assert written(prompt, turns, question) == published("qwen3", turns, question, enable_thinking=thinks)


@given(turns=EARLIER, question=SPOKEN)
def test_without_instructions_qwen3_is_asked_for_a_box_behind_the_question(
    published: Callable[..., str], turns: tuple[Turn, ...], question: str
) -> None:
    asked = f"{question}\n\n{BOXED}"
    assert written("qwen3", turns, question) == published("qwen3", turns, asked, enable_thinking=False)


@given(turns=INSTRUCTED, question=SPOKEN)
def test_with_instructions_of_its_own_a_conversation_is_written_as_llama_3_does_but_for_blanks_around_turns(
    published: Callable[..., str], turns: tuple[Turn, ...], question: str
) -> None:
    turns, question = stripped(turns), question.strip()
    assert written("llama-3", turns, question) == published("llama-3", turns, question)
    assert written("llama-3", turns, question) == published("llama-3.1", turns, question).replace(DATES, "", 1)


def test_without_instructions_llama_3_is_asked_for_its_steps_at_the_question() -> None:
    text = written("llama-3", TALK, "And 1+2?")
    head = "<|start_header_id|>user<|end_header_id|>\n\n1+1?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    alone = written("llama-3", (), "And 1+2?")
    assert text == f"{head}2.<|eot_id|>{alone}"


def test_instructions_stand_in_the_place_of_the_template_s_own() -> None:
    for name in FAMILIES:
        assert "boxed" not in written(name, TOLD, "And 1+2?")
        assert "boxed" in written(name, TALK, "And 1+2?")


def test_every_template_in_a_chat_s_markup_has_its_family() -> None:
    assert set(FAMILIES) == {name for name, text in TEMPLATES.items() if "<|" in text}


@given(turns=st.one_of(EARLIER, INSTRUCTED), question=SPOKEN)
def test_without_a_family_the_turns_stand_before_the_question_and_nothing_is_filled_in_twice(
    turns: tuple[Turn, ...], question: str
) -> None:
    said = "\n\n".join([*(turn.text for turn in turns), question])
    assert written("plain", turns, question) == f"{said}\n"
    assert written("Problem: {question}\nSolution:\n", turns, question) == f"Problem: {said}\nSolution:\n"


@given(turns=st.one_of(EARLIER, INSTRUCTED), question=SPOKEN)
def test_the_judge_reads_the_turns_before_the_question(turns: tuple[Turn, ...], question: str) -> None:
    said = "\n\n".join([*(turn.text for turn in turns), question])
    context = Transcript(question, (Step("{step}", "draft"),), turns)
    assert JudgePrompt("{question}|{steps}|{step}").render(context, "so", "\n\n") == f"{said}|{{step}}|so"


@pytest.mark.parametrize("name", [*TEMPLATES, "chat"])
@given(question=SPOKEN, steps=STEPS)
@pytest.mark.slow
def test_without_turns_a_question_is_written_into_the_template_and_nothing_else(
    named: Named, name: str, question: str, steps: tuple[Step, ...]
) -> None:
    template = prompt_template(name, annotate=False, tokenizer=named("qwen3"))
    before, behind = template.before_steps.split("{question}")
    said = "".join(f"{step.text}|" for step in steps)
    assert template.render(Transcript(question, steps), "|") == f"{before}{question}{behind}{said}"


@pytest.mark.parametrize("name", TEMPLATES)
@given(turns=EARLIER, question=SPOKEN, steps=STEPS, author=st.sampled_from(["draft", "target"]))
@pytest.mark.slow
def test_steps_follow_a_conversation_as_they_follow_a_question(
    name: str, turns: tuple[Turn, ...], question: str, steps: tuple[Step, ...], author: Author
) -> None:
    template = prompt_template(name, annotate=True, tokenizer="not read")

    def steps_behind(turns: tuple[Turn, ...]) -> str:
        head = template.render(Transcript(question, (), turns), ";")
        whole = template.render_candidate(Transcript(question, steps, turns), "so", author, ";")
        assert whole.startswith(head)
        return whole[len(head) :]

    assert steps_behind(turns) == steps_behind(())


@given(turns=INSTRUCTED, question=SPOKEN)
def test_chat_writes_instructed_conversations_by_the_tokenizers_own_template_to_the_letter(
    named: Named, published: Callable[..., str], turns: tuple[Turn, ...], question: str
) -> None:
    assert written("chat", turns, question, named("llama-3.1")) == published("llama-3.1", turns, question)


def test_chat_asks_for_a_box_behind_the_question_of_a_conversation_without_instructions(
    named: Named, published: Callable[..., str]
) -> None:
    expected = published("alternating", TALK, f"And 1+2?\n\n{BOXED}")
    assert written("chat", TALK, "And 1+2?", named("alternating")) == expected


@pytest.mark.parametrize(
    ("turns", "reason"),
    [(TOLD, "System role not supported"), (TALK[:1], "Conversation roles must alternate user/assistant/user/")],
)
def test_a_conversation_that_the_tokenizers_template_refuses_is_told_with_the_model_and_the_reason(
    named: Named, turns: tuple[Turn, ...], reason: str
) -> None:
    with pytest.raises(ConversationError) as caught:
        written("chat", turns, "And 1+2?", named("alternating"))
    assert str(caught.value).startswith(
        f"the chat template of {named('alternating')} refuses the conversation: {reason}"
    )
    assert str(caught.value).endswith(". Send turns that it accepts, or set the model's prompt to another template")


class Counting:
    """A tokenizer that counts the calls of its template."""

    bos_token = None
    asked = 0

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [*map(ord, text)]}

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
        self.asked += 1
        return "".join(message["content"] for message in messages)


def test_a_conversation_s_head_is_written_once_for_all_of_its_steps() -> None:
    tokenizer = Counting()
    template = PromptTemplate("{question}", conversation=TokenizerConversation("counting", tokenizer, BOXED))
    context = Transcript("why?", (), TOLD)
    for number in range(5):
        context = context.extended(Step(str(number), "draft"))
        assert template.render(context, ";").startswith("Be brief.1+1?2.why?0;")
    assert tokenizer.asked == 1


def test_of_many_conversations_only_so_many_heads_are_kept() -> None:
    tokenizer = Counting()
    conversation = TokenizerConversation("counting", tokenizer, BOXED)
    for question in (*map(str, range(1000)), "0"):
        conversation.head(TOLD, question)
    assert tokenizer.asked == 1001


@pytest.mark.parametrize(
    ("added", "start"),
    [("$A", "<s>"), ("<s> $A", "<s>"), ("<g> <s> $A", "<g><s>"), ("<s> $A <e>", "<s>"), ("$A", "")],
)
def test_the_text_of_a_chat_gives_the_tokens_of_the_template(added: str, start: str) -> None:
    """The tokenizer adds no start token, one or two, or an end; the template writes the start itself."""
    special = ["<s>", "<g>", "<e>"]
    inner: Any = Tokenizer(models.WordLevel({"?": 0, "<s>": 1, "<g>": 2, "<e>": 3, "a": 4, "user": 5}, "?"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(added, special_tokens=[("<s>", 1), ("<g>", 2), ("<e>", 3)])
    inner.add_special_tokens(special)
    named = {"bos_token": "<s>", "eos_token": "<e>"}
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=inner, **named)
    tokenizer.chat_template = start + "{% for m in messages %}{{ m.role }} {{ m.content }}{% endfor %}"
    own = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=True, return_dict=False)
    ids = tokenizer(chat_text(tokenizer, (Turn("user", "a"),)))["input_ids"]
    assert ids[: len(own)] == own


def test_qwen3s_template_drops_what_stands_between_two_ends_of_a_thought_and_arbiter_does_not(
    published: Callable[..., str],
) -> None:
    turns = (Turn("system", "s"), Turn("user", "q"), Turn("assistant", "<think>\na\n</think>\n\nb</think>c"))
    theirs, ours = published("qwen3", turns, "next"), written("qwen3-thinking", turns, "next")
    assert "assistant\nc<|im_end|>" in theirs
    assert f"assistant\n{turns[2].text}<|im_end|>" in ours
