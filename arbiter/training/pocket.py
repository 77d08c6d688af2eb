"""Make the four pocket models: ``python -m arbiter.training.pocket STAGE``, stages in order, each from a seed.

tokenizer   merges learned from the world's own text
draft       a small Llama that has seen few multiplications
target      a larger one that has seen everything, for longer
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import structlog
import torch
from transformers import PreTrainedTokenizerFast

from arbiter.pocket import world
from arbiter.training.language import llama_config, train_language_model
from arbiter.training.loop import Settings
from arbiter.training.tokenizer import train_tokenizer

SEED = 2512
MODELS = Path(__file__).parent.parent / "pocket" / "models"
CONTEXT = 512
DRAFT_WEIGHTS: world.Weights = {"+": 0.45, "-": 0.45, "*": 0.06, "mod": 0.04}

log = structlog.get_logger("arbiter.training")


def make_tokenizer() -> None:
    """Learn the tokenizer that all four models share."""
    problems = itertools.islice(world.problems(SEED, "train"), 5000)
    train_tokenizer((_annotated(problem) for problem in problems), 512, CONTEXT).save_pretrained(MODELS / "draft")


def _annotated(problem: world.PocketProblem) -> str:
    """A solution as the router reads it, so that its words get merges too."""
    steps = (f"Model {index % 2}: {step}" for index, step in enumerate(problem.steps))
    return world.PROMPT.format(question=problem.question) + world.SEPARATOR.join(steps)


def make_draft() -> None:
    """Train the draft."""
    _make_language_model("draft", (96, 3, 288), Settings(updates=2000, batch=32, learning_rate=3e-3), DRAFT_WEIGHTS)


def make_target() -> None:
    """Train the target."""
    settings = Settings(updates=3600, batch=32, learning_rate=2e-3)
    _make_language_model("target", (128, 4, 384), settings, world.KIND_WEIGHTS)


def _make_language_model(name: str, shape: tuple[int, int, int], settings: Settings, weights: world.Weights) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MODELS / "draft")
    model = train_language_model(llama_config(tokenizer, *shape), tokenizer, settings, SEED, weights)
    model.to(torch.float16).save_pretrained(MODELS / name)
    tokenizer.save_pretrained(MODELS / name)


STAGES: dict[str, Callable[[], None]] = {"tokenizer": make_tokenizer, "draft": make_draft, "target": make_target}

if __name__ == "__main__":
    torch.set_num_threads(1)
    STAGES[sys.argv[1]]()
