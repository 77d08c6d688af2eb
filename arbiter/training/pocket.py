"""Make the four pocket models: ``python -m arbiter.training.pocket [STAGE]``, all stages in order, each from a seed.

::

    tokenizer   merges learned from the world's own text
    draft       a small Llama that has seen few multiplications
    target      a larger one that has seen everything, for longer
    prm         a judge built over the target, taught on solutions that a program has checked step by step
    router      two classes, from the PRM, on the rows of a ``generate`` run of this very system
"""

# pyright: reportUnknownMemberType=false
# (torch and transformers are typed in part)

import itertools
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import structlog
from rich.console import Console
from transformers import PreTrainedModel

from arbiter.backends.opening import open_models
from arbiter.bench import run_problems
from arbiter.config import Config, load_config, override
from arbiter.data import Problem
from arbiter.pocket import world
from arbiter.progress import PlainWatcher
from arbiter.results import Result
from arbiter.rows import Row
from arbiter.runs import open_run, read_records
from arbiter.training.judge import judge
from arbiter.training.language import llama_config, train_language_model
from arbiter.training.loop import Settings
from arbiter.training.scoring import (
    balanced,
    router_row,
    slipped,
    solution_row,
    train_prm,
    train_router,
)
from arbiter.training.tokenizer import Text, train_tokenizer

SEED = 2512
MODELS = Path(__file__).parent.parent / "pocket" / "models"
CONTEXT = 512
PRM_PROBLEMS = 5000
ROUTER_PROBLEMS = 2000
RUNS = Path("runs") / "train-pocket"
DRAFT_WEIGHTS: world.Weights = {"+": 0.47, "-": 0.46, "*": 0.03, "mod": 0.04}

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
    text = Text.load(MODELS / "draft")
    model = train_language_model(llama_config(text, *shape), text, settings, SEED, weights)
    _save(model, name, text)
    shutil.rmtree(RUNS, ignore_errors=True)  # runs of the model before


def make_prm() -> None:
    """Build a judge over the target, and teach it on what draft and target wrote by turns, and on single slips."""
    drawn = _drawn(SEED + 10, PRM_PROBLEMS)
    folder = _ran("prm", {"run_type": "random", "sampling": {"temperature": 0.7}}, drawn)
    written = {
        result.solution.problem: [step.kept.text for step in result.solution.steps]
        for result in read_records(folder / "results.jsonl", Result)
    }
    text, rng = Text.load(MODELS / "target"), random.Random(SEED)
    attempts = [solution_row(text, problem, written[name]) for name, problem in drawn.items()]
    slips = [solution_row(text, problem, slipped(problem, rng)) for problem in drawn.values()]
    rows = attempts + slips
    rng.shuffle(rows)
    model = judge(MODELS / "target", text, SEED)
    train_prm(model, text, rows, Settings(updates=400, batch=32, learning_rate=2e-4), SEED)
    _save(model, "prm", text)
    shutil.rmtree(RUNS / "router", ignore_errors=True)  # scored by the model before


def make_router() -> None:
    """Train the router on the advantage of the target, as the PRM sees it at each step of a generate run."""
    folder = _ran("router", {"run_type": "generate"}, _drawn(SEED + 20, ROUTER_PROBLEMS))
    steps = sorted(read_records(folder / "rows.jsonl", Row), key=lambda row: (int(row.problem), row.step))
    text = Text.load(MODELS / "prm")
    rows = balanced([router_row(text, row) for row in steps], SEED)
    settings = Settings(updates=len(rows) * 4 // 32, batch=32, learning_rate=5e-4)
    _save(train_router(MODELS / "prm", text, rows, settings, SEED), "router", text)


def _drawn(seed: int, count: int) -> dict[str, world.PocketProblem]:
    return {str(index): problem for index, problem in enumerate(itertools.islice(world.problems(seed, "train"), count))}


def _ran(name: str, changes: dict[str, Any], drawn: dict[str, world.PocketProblem]) -> Path:
    """The folder of a run of this very system over the drawn problems.

    One that was finished before is used again, one that was cut short is continued.
    """
    folder = RUNS / name
    if not (folder / "summary.json").exists():
        problems = [Problem(key, problem.question, str(problem.answer)) for key, problem in drawn.items()]
        anyio.run(_run, override(load_config("pocket"), changes, "recipe"), problems, folder)
    return folder


async def _run(config: Config, problems: list[Problem], out: Path) -> None:
    async with open_models(config) as models, open_run(config, problems, out) as folder:
        await run_problems(config, problems, models, folder, PlainWatcher(Console(stderr=True)))


def _save(model: PreTrainedModel, name: str, text: Text) -> None:
    """Half precision on disk: the models are used in single precision, and four of them fit the repository."""
    model.half().save_pretrained(MODELS / name)
    text.tokenizer.save_pretrained(MODELS / name)


STAGES: dict[str, Callable[[], None]] = {
    "tokenizer": make_tokenizer,
    "draft": make_draft,
    "target": make_target,
    "prm": make_prm,
    "router": make_router,
}

if __name__ == "__main__":
    for stage in sys.argv[1:] or STAGES:
        STAGES[stage]()
