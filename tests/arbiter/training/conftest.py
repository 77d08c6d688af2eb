"""Tiny checkpoints of every kind of base, and training rows."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, PreTrainedTokenizerFast, Qwen2Config
from transformers.models import llama, qwen2

from arbiter.data.training_rows import Split, TrainingRow
from arbiter.pocket import world
from arbiter.protocols.records import Step
from arbiter.training.tokenizer import train_tokenizer

CONTEXT = 512
_KINDS = {"llama": (LlamaConfig, llama.modeling_llama, "Llama"), "qwen2": (Qwen2Config, qwen2.modeling_qwen2, "Qwen2")}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    problems = itertools.islice(world.problems(1, "train"), 200)
    texts = [world.PROMPT.format(question=found.question) + world.SEPARATOR.join(found.steps) for found in problems]
    return train_tokenizer(texts, 384, CONTEXT)


@pytest.fixture(scope="session")
def base(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a checkpoint with random weights. The name of its class begins with ``family`` and ends with ``head``."""

    def build(head: str = "ForSequenceClassification", labels: int = 1, family: str = "llama", seed: int = 5) -> Path:
        shape, module, name = _KINDS[family]
        build_config: Any = shape
        config = build_config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            initializer_range=0.2,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            num_labels=labels,
        )
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp(f"{family}{head}{labels}")
        getattr(module, name + head)(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def prm(base: Callable[..., Path]) -> Path:
    return base()


@pytest.fixture(scope="session")
def a_row() -> Callable[..., TrainingRow]:
    """Return a row with the fields that matter to a test."""

    def build(
        problem: str = "p", low: float = 0.2, high: float = 0.9, split: Split = "train", **fields: Any
    ) -> TrainingRow:
        given: dict[str, Any] = {
            "question": "Compute (2+2)+3.",
            "step": 1,
            "history": (Step("2+2: 2+2=4: 4.", "target"),),
            "draft": "4+3: 4+3=7: 7.",
            "targets": ("4+3: 7.",),
            "target_scores": (high,),
            **fields,
        }
        return TrainingRow(problem=problem, draft_score=low, split=split, **given)

    return build


@pytest.fixture(scope="session")
def rows(a_row: Callable[..., TrainingRow]) -> list[TrainingRow]:
    """Return rows of the pocket world in which escalating a wrong draft usually pays."""
    rng, found = random.Random(3), list[TrainingRow]()
    for number, problem in enumerate(itertools.islice(world.problems(9, "train"), 12)):
        for index, step in enumerate(problem.steps):
            wrong = rng.random() < 0.4
            found.append(
                a_row(
                    str(number),
                    0.3 * rng.random() if wrong else rng.random(),
                    rng.random(),
                    "validation" if number % 3 == 0 else "train",
                    question=problem.question,
                    step=index,
                    history=tuple(Step(text, "draft") for text in problem.steps[:index]),
                    draft=step.replace("=", "=9", 1) if wrong else step,
                )
            )
    return found
