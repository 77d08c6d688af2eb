"""Decoding in steps writes, token for token, what the model writes in one go."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (tokenizers is typed in part)

from typing import Any

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

from arbiter.backends.in_process.model_loading import Loaded, open_model
from arbiter.backends.line_tokens import _QWEN as QWEN  # pyright: ignore[reportPrivateUsage] - the pattern of Qwen2
from arbiter.backends.token_texts import FastTokenTexts
from arbiter.pocket import world
from tests.decoding_in_one_go import authors, in_one_go, solved, texts_of, tiny_model, token_ids

CUTS: dict[str, Any] = {
    "of GPT-2": ByteLevel(add_prefix_space=False),
    "of Qwen": Sequence(
        [Split(Regex(QWEN), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]  # pyright: ignore[reportArgumentType]
    ),
}
BLANKS = ("\n", "\n\n", "\n\n\n", "\n\n\n\n", "\n\n  ", "\n    ", " \n\n", ".\n\n", ")\n\n")
TEXTS = [f"a{blank}b(x){blank}The step 2=1+1.{blank}" for blank in BLANKS] * 3
QUESTIONS = ("Compute 1+1.", "What is\n\nleft?")
SEEDS = range(2)


def models(cut: Any, seed: int) -> dict[str, Loaded]:
    """Return a draft and a target with the same tokenizer, which cuts texts by ``cut``, and other weights."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = cut, ByteLevelDecoder()
    trainer = BpeTrainer(vocab_size=340, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    texts, size = FastTokenTexts(tokenizer, None), tokenizer.get_vocab_size()
    return {"draft": tiny_model(texts, size, seed), "target": tiny_model(texts, size, seed + 100)}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.asyncio
async def test_the_target_alone_writes_in_steps_what_it_writes_in_one_go(cut: Any, seed: int) -> None:
    target = models(cut, seed)["target"]
    whole, steps = await in_one_go(target, QUESTIONS), await solved({"target": target}, QUESTIONS)
    assert list(map(token_ids, steps)) == list(map(token_ids, whole))
    assert [texts_of(one, "\n\n") for one in steps] == [one.text for one in whole]
    assert max(len(one.steps) for one in steps) > 3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.asyncio
async def test_with_every_draft_rejected_the_target_writes_what_it_writes_alone(cut: Any, seed: int) -> None:
    both = models(cut, seed)
    steps = await solved(both, QUESTIONS, run_type="random", thresholds={"random": 1.0}, verify="on")
    whole = await in_one_go(both["target"], QUESTIONS)
    assert list(map(token_ids, steps)) == list(map(token_ids, whole))
    assert any(step.kept.prefix_match for one in steps for step in one.steps)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.asyncio
async def test_verified_escalation_changes_no_token_of_a_mixed_transcript(cut: Any) -> None:
    both = models(cut, 1)
    plain = await solved(both, QUESTIONS, run_type="random", thresholds={"random": 0.5}, verify="off")
    checked = await solved(both, QUESTIONS, run_type="random", thresholds={"random": 0.5}, verify="on")
    assert list(map(token_ids, checked)) == list(map(token_ids, plain))
    assert set[str]().union(*map(authors, plain)) == {"draft", "target"}


@pytest.mark.asyncio
async def test_penalties_count_the_same_tokens_in_steps_and_in_one_go() -> None:
    target = models(CUTS["of GPT-2"], 2)["target"]
    sampling: dict[str, Any] = {"sampling": {"presence_penalty": 0.5, "frequency_penalty": 0.25}}
    whole = await in_one_go(target, QUESTIONS, **sampling)
    steps = await solved({"target": target}, QUESTIONS, **sampling)
    assert list(map(token_ids, steps)) == list(map(token_ids, whole))


@pytest.mark.asyncio
async def test_the_next_step_reads_no_token_again_but_the_last() -> None:
    (one,) = await solved({"target": models(CUTS["of GPT-2"], 0)["target"]}, QUESTIONS[:1])
    usages = [step.kept.usage for step in one.steps]
    assert all(later.cached_tokens == later.prompt_tokens - 1 for later in usages[1:])


@pytest.mark.asyncio
async def test_steps_as_text_have_no_tokens_and_may_lead_to_another_answer() -> None:
    target = models(CUTS["of GPT-2"], 0)["target"]
    whole = await in_one_go(target, QUESTIONS)
    steps = await solved({"target": target}, QUESTIONS, token_exact=False)
    assert [token_ids(one) for one in steps] == [[], []]
    assert [one.text for one in steps] != [one.text for one in whole]


@pytest.mark.asyncio
async def test_the_pocket_target_writes_in_steps_what_it_writes_in_one_go() -> None:
    target = open_model("pocket:target", "generator", device="cpu")
    questions, keys = ["Compute (12+30)*7.", "Compute 45+(3*12)."], {"separator": world.SEPARATOR}
    whole = await in_one_go(target, questions, world.PROMPT)
    steps = await solved({"target": target}, questions, world.PROMPT, **keys)
    assert list(map(token_ids, steps)) == list(map(token_ids, whole))
    assert all(len(one.steps) > 1 for one in steps)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.asyncio
async def test_blocks_change_no_token_of_a_mixed_transcript(cut: Any) -> None:
    both = models(cut, 0)
    keys: dict[str, Any] = {"run_type": "random", "thresholds": {"random": 0.4}}
    one_by_one = await solved(both, QUESTIONS, **keys)
    in_blocks = await solved(both, QUESTIONS, **keys, block=4)
    assert list(map(token_ids, in_blocks)) == list(map(token_ids, one_by_one))
    assert {step.kept.author for one in in_blocks for step in one.steps} == {"draft", "target"}
