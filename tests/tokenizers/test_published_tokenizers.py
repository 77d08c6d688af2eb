"""Decoding in steps with the tokenizers of published models, which ``just test-tokenizers`` fetches (132 MB).

Each is given to tiny models with random weights. Nothing else runs these tests.
"""

import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from arbiter.backends.in_process.model_loading import Loaded
from arbiter.backends.token_texts import FastTokenTexts
from tests.decoding_in_one_go import authors, in_one_go, solved, texts_of, tiny_model, token_ids

FOLDER = os.environ.get("ARBITER_TOKENIZERS", "")
NAMES = ("qwen3", "llama3", "deepseek_v3", "gemma3", "gptoss", "claude")  # the last cuts white space as GPT-2's does
QUESTIONS = ("What is\n\nleft?", "Why?\n")
pytestmark = [pytest.mark.skipif(not FOLDER, reason="run just test-tokenizers"), pytest.mark.asyncio]


@pytest.fixture(scope="module", params=NAMES)
def models(request: pytest.FixtureRequest) -> dict[str, Loaded]:
    """A draft and a target with the same tokenizer and other weights."""
    tokenizer = Tokenizer.from_file(str(Path(FOLDER) / request.param / "tokenizer.json"))
    texts, size = FastTokenTexts(tokenizer, None), tokenizer.get_vocab_size() + 1
    return {name: tiny_model(texts, size, seed) for seed, name in enumerate(("draft", "target"))}


async def test_the_target_alone_writes_in_steps_what_it_writes_in_one_go(models: dict[str, Loaded]) -> None:
    whole = await in_one_go(models["target"], QUESTIONS)
    steps = await solved({"target": models["target"]}, QUESTIONS)
    assert list(map(token_ids, steps)) == list(map(token_ids, whole))
    assert [texts_of(one, "\n\n") for one in steps] == [one.text for one in whole]
    assert max(len(one.steps) for one in steps) > 3


async def test_with_every_draft_rejected_the_target_writes_what_it_writes_alone(models: dict[str, Loaded]) -> None:
    whole = await in_one_go(models["target"], QUESTIONS)
    steps = await solved(models, QUESTIONS, run_type="random", thresholds={"random": 1.0}, verify="on")
    assert list(map(token_ids, steps)) == list(map(token_ids, whole))
    assert any(step.kept.prefix_match for one in steps for step in one.steps)


async def test_verified_escalation_changes_no_token_of_a_mixed_transcript(models: dict[str, Loaded]) -> None:
    plain = await solved(models, QUESTIONS, run_type="random", thresholds={"random": 0.5}, verify="off")
    checked = await solved(models, QUESTIONS, run_type="random", thresholds={"random": 0.5}, verify="on")
    assert list(map(token_ids, checked)) == list(map(token_ids, plain))
    assert set[str]().union(*map(authors, plain)) == {"draft", "target"}
