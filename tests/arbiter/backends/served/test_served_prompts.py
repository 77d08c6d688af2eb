"""The form in which prompts reach a server, and what shows that it read other tokens than were sent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from tokenizers import Tokenizer, processors

import arbiter.pocket
from arbiter.backends.in_process.local_models import open_local_generator
from arbiter.backends.opening import open_scorer
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.token_texts import (
    TransformersTokenTexts,
    appends_end,
    fast_token_texts,
    prompt_tokens,
    refuse_special_marks,
)
from arbiter.backends.tokenizers import read_tokenizer
from arbiter.config.config import load_config, parse
from arbiter.config.model_tables import InProcessTable
from arbiter.protocols.errors import BackendError, ConfigError, ContextTooLongError
from arbiter.protocols.ports import Generation, Score, ScoreRequest
from arbiter.protocols.records import Transcript
from arbiter.servers.doctor import Finding, examine

if TYPE_CHECKING:
    from conftest import FakeServer, Table

StepOf = Callable[..., Awaitable[Generation]]
ScoreOf = Callable[..., Awaitable[Score]]
Answer = Callable[..., dict[str, Any]]
Folder = Callable[..., str]

POCKET = Path(arbiter.pocket.__file__).parent / "models" / "draft"
GPT_OSS = Path(__file__).parents[1] / "chat_templates" / "gpt-oss.jinja"
CHAT = "{% for m in messages %}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
PROMPT = "1+1?\n"


@pytest.fixture
def backend() -> str:
    return "http"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return the folder of the pocket tokenizer, which ``appends`` its end token, or has further special tokens."""

    def build(*special: str, appends: bool = False, chat: str | None = None) -> str:
        settings = json.loads((POCKET / "tokenizer_config.json").read_text(encoding="utf-8"))
        inner: Any = Tokenizer.from_file(str(POCKET / "tokenizer.json"))
        inner.add_special_tokens([*special])
        if appends:
            end = settings["eos_token"]
            inner.post_processor = processors.TemplateProcessing(
                f"$A {end}", special_tokens=[(end, inner.token_to_id(end))]
            )
        inner.save(str(tmp_path / "tokenizer.json"))
        shutil.copy(POCKET / "tokenizer_config.json", tmp_path)
        if chat:
            (tmp_path / "chat_template.jinja").write_text(chat, encoding="utf-8")
        return str(tmp_path)

    return build


def tokens(name: str, text: str) -> list[int]:
    """Return the tokens of ``text`` without any that the tokenizer adds."""
    return read_tokenizer(name, "a test", "do without")(text, add_special_tokens=False)["input_ids"]


@pytest.mark.asyncio
async def test_a_prompt_is_a_text_unless_the_tokenizer_would_append_an_end_to_it(
    server: FakeServer, step: StepOf, answer: Answer, folder: Folder
) -> None:
    server.replies(answer())
    await step({"tokenizer": folder()})
    await step({"tokenizer": folder(appends=True)})
    await step({"tokenizer": folder(appends=True, chat=CHAT), "prompt": "chat"})
    boxed = "1+1?\n\nPlease reason step by step, and put your final answer within \\boxed{}.\nA:"
    own = [tokens(folder(), text) for text in (PROMPT, boxed)]
    assert [asked.body["prompt"] for asked in server.asked] == [PROMPT, *own]


@pytest.mark.asyncio
async def test_a_judge_and_label_tokens_get_no_end_at_the_end_of_their_prompts_either(
    server: FakeServer, table: Table, score: ScoreOf, scoring: Callable[..., ScoreRequest], folder: Folder
) -> None:
    alternatives = {"+": -0.7, "-": -0.7, "8": -0.7}
    one = {"text": "8", "finish_reason": "length", "logprobs": {"top_logprobs": [alternatives]}}
    server.trial = {"body": {"choices": [one]}}
    server.replies(server.trial)
    name = folder(appends=True)
    await score({"tokenizer": name, "scores": "label-tokens", "labels": ["+", "-"]})
    judge = table("judge", tokenizer=name, prompt="{question}|{steps}|{step}:\n")
    async with open_scorer("judge", judge, None) as judging:
        await judging.score(scoring(score_kind="judge"))
    texts = [f"{PROMPT}a step\n\n", "1+1?||a step:\n"]
    sent = [asked.body["prompt"] for asked in server.asked]
    assert sent[1::2] == [tokens(name, text) for text in texts]  # each after a request that only checks the server


@pytest.mark.parametrize("appends", [False, True])
def test_only_an_end_that_the_tokenizer_appends_is_left_out(appends: bool, folder: Folder) -> None:
    name = folder(appends=appends)
    fast = fast_token_texts(Path(name))
    assert fast is not None
    end = json.loads((POCKET / "tokenizer_config.json").read_text(encoding="utf-8"))["eos_token"]
    for texts in (fast, TransformersTokenTexts(read_tokenizer(name, "a test", "do without"))):
        assert appends_end(texts) == appends
        for text in ("", "1+1", end, f"1+1{end}"):
            assert prompt_tokens(texts, text) == tokens(name, text)


@pytest.mark.parametrize("mark", ["<|channel|>", "</think>", "[THINK]"])
def test_a_model_whose_thought_marks_are_special_tokens_is_refused(mark: str, folder: Folder) -> None:
    name = folder(mark)
    fast = fast_token_texts(Path(name))
    assert fast is not None
    for texts in (fast, TransformersTokenTexts(read_tokenizer(name, "a test", "do without"))):
        with pytest.raises(BackendError, match=r"^m: its tokenizer has thought marks that are special tokens \("):
            refuse_special_marks(texts, "m")


def test_a_prompt_that_opens_the_answer_of_gpt_oss_leaves_no_place_for_a_thought(folder: Folder) -> None:
    texts, opened = fast_token_texts(Path(folder("<|channel|>"))), load_config("gpt-oss-20b-120b").models.target
    assert texts is not None
    assert opened is not None
    refuse_special_marks(texts, "m", opened.prompt)
    with pytest.raises(BackendError, match="a prompt that ends with"):
        refuse_special_marks(texts, "m", "<|start|>assistant")


def test_thought_marks_that_are_text_are_not_refused(folder: Folder) -> None:
    texts = fast_token_texts(Path(folder("<|other|>")))
    assert texts is not None
    refuse_special_marks(texts, "m")


@pytest.mark.asyncio
async def test_such_a_model_is_refused_before_any_work_behind_a_server_and_in_process(
    server: FakeServer, step: StepOf, folder: Folder
) -> None:
    name = folder("<|channel|>")
    with pytest.raises(BackendError, match=r"^models\.draft: its tokenizer has thought marks that are special tokens"):
        await step({"tokenizer": name})
    assert server.asked == []
    loaded: Any = SimpleNamespace(texts=fast_token_texts(Path(name)), name="m")
    table = cast("InProcessTable", parse({"models": {"draft": {"model": "m", "prompt": "plain"}}}, "test").models.draft)
    with pytest.raises(BackendError, match=r"^the model 'm': its tokenizer has thought marks"):
        async with open_local_generator(table, PromptTemplate("{question}"), None, loaded):
            pass


@pytest.mark.asyncio
async def test_the_channels_of_gpt_oss_are_kept_by_an_engine_that_can_and_its_steps_are_plain(
    server: FakeServer, step: StepOf, folder: Folder, answer: Answer
) -> None:
    marks = ("<|channel|>", "<|message|>", "<|call|>")
    keys = {"tokenizer": folder(*marks, chat=GPT_OSS.read_text(encoding="utf-8")), "prompt": "chat"}
    server.trial = answer()
    with pytest.raises(ConfigError, match=r"only sglang and vLLM are known to keep .* separate its thoughts"):
        await step(keys)
    server.replies(answer("<|channel|>analysis<|message|>I add."))
    made = await step({**keys, "engine": "sglang"}, transcript=Transcript("1+1?"))
    assert (made.text, made.stop_reason) == ("<think>I add.", "separator")
    assert server.asked[-1].body["skip_special_tokens"] is False
    assert server.asked[-1].body["prompt"].endswith("<|start|>assistant")


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "state", "text"),
    [
        (0, "ok", "the server read the 6 tokens of the prompt"),
        (14, "warning", "the server read 20 tokens where the prompt has 6: it puts prompts into a template of its own"),
        (-1, "warning", "the server read 5 tokens where the prompt has 6: it cuts prompts, leaves out a start token"),
    ],
)
async def test_the_doctor_compares_the_servers_count_of_a_prompt_with_the_tokenizer(
    more: int, state: str, text: str, server: FakeServer, answer: Answer, folder: Folder
) -> None:
    name = folder()
    question = len(tokens(name, "Compute (12+30)-17.\n"))
    reply: Any = answer("12+30: 42.", finish_reason="length")
    reply["body"]["usage"]["prompt_tokens"] = question + more
    server.replies(reply)
    finding = await found(server.url, tokenizer=name, prompt="plain")
    [check] = [check for check in finding.checks if check.name == "prompt"]
    expected = text.replace("20", str(question + 14)).replace(" 6", f" {question}").replace(" 5", f" {question - 1}")
    assert (check.state, check.text[: len(expected)]) == (state, expected)


async def found(url: str, **keys: Any) -> Finding:
    table = {"backend": "http", "url": url, "model": "m", "retries": 0, "timeout": 20, **keys}
    [finding] = [finding async for finding in examine(parse({"models": {"draft": table}}, "test"))]
    return finding


@pytest.mark.asyncio
@pytest.mark.parametrize("read", [1023, 1024, 1025])
async def test_a_text_that_fills_the_context_was_cut_and_its_score_and_step_are_errors(
    read: int, server: FakeServer, step: StepOf, score: ScoreOf, scored: Answer, answer: Answer
) -> None:
    reply: Any = scored(0.0)
    reply["body"]["meta_info"] = {"prompt_tokens": read}
    written: Any = answer(finish_reason="stop")
    written["body"]["usage"]["prompt_tokens"] = read
    for ask, right in ((score, reply), (step, written)):
        server.replies(right)
        if read < 1024:
            await ask()
            continue
        with pytest.raises(
            BackendError, match=rf"read {read} tokens, as many as its context holds \(1024\).*limits\.max"
        ):
            await ask()


@pytest.mark.asyncio
async def test_a_text_that_a_language_model_scored_and_that_fills_the_context_was_cut(
    server: FakeServer, table: Table, score: ScoreOf, scoring: Callable[..., ScoreRequest]
) -> None:
    one = {"text": "8", "finish_reason": "length", "logprobs": {"top_logprobs": [{"+": -0.7, "-": -0.7, "8": -0.7}]}}
    server.trial = {"body": {"choices": [one]}}
    server.replies({"body": {"choices": [one], "usage": {"prompt_tokens": 1024}}})
    with pytest.raises(BackendError, match="it cuts longer texts"):
        await score({"scores": "label-tokens", "labels": ["+", "-"]})
    async with open_scorer("judge", table("judge", prompt="{question}|{steps}|{step}:\n"), None) as judge:
        with pytest.raises(BackendError, match="it cuts longer texts"):
            await judge.score(scoring(score_kind="judge"))


@pytest.mark.asyncio
@pytest.mark.parametrize("keys", [{}, {"scores": "label-tokens", "labels": ["+", "-"]}])
async def test_a_scorer_whose_context_is_full_fails_with_the_keys_that_help(
    keys: dict[str, Any], server: FakeServer, score: ScoreOf
) -> None:
    one = {"text": "8", "finish_reason": "length", "logprobs": {"top_logprobs": [{"+": -0.7, "-": -0.7}]}}
    trial: Any = msgspec.json.decode(msgspec.json.encode(server.trial))
    trial["body"]["choices"] = [one]
    server.trial = trial
    server.replies({"status": 400, "body": "maximum context length is 10"})
    with pytest.raises(
        ContextTooLongError, match=r"Lower limits\.max_tokens or limits\.step_tokens, or shorten the que"
    ):
        await score(keys, transcript=Transcript("1+1?"))
