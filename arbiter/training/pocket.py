"""Make the pocket models: ``python -m arbiter.training.pocket [STAGE…]``.

Without a stage, all stages but ``specialist`` run in order. Each has a fixed seed::

    tokenizer   merges learned from texts of the pocket world
    draft       a small Llama, trained on few multiplications and no division
    target      a larger Llama, trained on many multiplications and no division
    reader      a Llama of the target's size, trained on all kinds; only the base of the PRM
    prm         a judge built over the reader, trained on solutions that a program has checked step by step
    router      two classes, trained from the PRM on a collection of the pocket models
    specialist  the draft, trained further on multiplications: a second, cheaper target (not shipped, only on request)

The stage ``prm`` does what ``arbiter train prm`` does; ``router`` does what ``arbiter collect`` and
``arbiter train router`` do.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (torch and transformers are typed in part)

import itertools
import random
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import torch
from rich.console import Console
from transformers import LlamaForCausalLM, PreTrainedModel

from arbiter.config.config import load_config
from arbiter.data import Problem
from arbiter.pocket import world
from arbiter.runs.bench import bench
from arbiter.runs.collection import planned, problems_of
from arbiter.runs.folder import read_records
from arbiter.runs.progress import PlainWatcher
from arbiter.runs.results import Result
from arbiter.training.pocket_lm import llama_config, train_further, train_language_model
from arbiter.training.pocket_prm import judge
from arbiter.training.prm_training import PrmSettings, train_prm
from arbiter.training.router_training import RouterSettings, train_router
from arbiter.training.tokenizer import EncodedText, train_tokenizer
from arbiter.training.trainer import Settings
from arbiter.training.training_data import Solved, read_rows

SEED = 2512
MODELS = Path(__file__).parent.parent / "pocket" / "models"
CONTEXT = 512
PRM_PROBLEMS = 3300
ROUTER_SEEDS = (SEED + 20, SEED + 21)
ROUTER_PROBLEMS = 900  # per seed
RUNS = Path("runs") / "train-pocket"
WRITER_WEIGHTS: world.Weights = {"+": 0.32, "-": 0.32, "*": 0.31, "mod": 0.05}
DRAFT_WEIGHTS: world.Weights = {"+": 0.47, "-": 0.46, "*": 0.03, "mod": 0.04}
SPECIALIST_WEIGHTS: world.Weights = {"+": 0.2, "-": 0.2, "*": 0.56, "mod": 0.04}


def make_tokenizer() -> None:
    """Learn the tokenizer that all models share."""
    problems = itertools.islice(world.problems(SEED, "train", WRITER_WEIGHTS), 5000)
    train_tokenizer((_annotated(problem) for problem in problems), 512, CONTEXT).save_pretrained(MODELS / "draft")


def _annotated(problem: world.PocketProblem) -> str:
    """Return a solution as the router reads it, so that the author prefixes get merges too."""
    steps = (f"Model {index % 2}: {step}" for index, step in enumerate(problem.steps))
    return world.PROMPT.format(question=problem.question) + world.SEPARATOR.join(steps)


def make_draft() -> None:
    """Train the draft."""
    settings = Settings(updates=2000, batch=32, learning_rate=3e-3, seed=SEED)
    _make_language_model(MODELS / "draft", (96, 3, 288), settings, DRAFT_WEIGHTS)


def make_target() -> None:
    """Train the target."""
    _make_language_model(MODELS / "target", (128, 4, 384), _LONGER, WRITER_WEIGHTS)


def make_reader() -> None:
    """Train the base of the PRM. In its last updates, half of the solutions have authors, as the router reads them."""
    text = EncodedText.load(MODELS / "draft")
    model = train_language_model(llama_config(text, 128, 4, 384), text, _LONGER, SEED)
    further = Settings(updates=600, batch=32, learning_rate=5e-4, seed=SEED)
    train_further(model, text, further, SEED + 2, annotated=0.5)
    _save(model, RUNS / "reader", text)


_LONGER = Settings(updates=3600, batch=32, learning_rate=2e-3, seed=SEED)


def _make_language_model(out: Path, shape: tuple[int, int, int], settings: Settings, weights: world.Weights) -> None:
    text = EncodedText.load(MODELS / "draft")
    _save(train_language_model(llama_config(text, *shape), text, settings, SEED, weights), out, text)


def make_prm() -> None:
    """Build a judge over the reader. Train it on attempts of draft and target in random turns, and on single slips."""
    _remove(RUNS / "judge", RUNS / "prm")
    text = EncodedText.load(RUNS / "reader")
    _save(judge(RUNS / "reader", text, SEED), RUNS / "judge", text)
    settings = PrmSettings(
        base=str(RUNS / "judge"),
        prompt=world.PROMPT,
        layers=2,
        epochs=2,
        batch=32,
        learning_rate=2e-4,
        seed=SEED,
    )
    train_prm(settings, _judged(), RUNS / "prm")
    _publish(RUNS / "prm", "prm")


def _judged() -> list[Solved]:
    """Return attempts of draft and target, and right solutions with a slip. A program labels each step."""
    problems = list(itertools.islice(world.problems(SEED + 10, "train"), PRM_PROBLEMS))
    drawn = {str(index): problem for index, problem in enumerate(problems)}
    rng = random.Random(SEED)
    found: list[Solved] = []
    attempts = {result.solution.problem: result for result in read_records(_attempts(drawn) / "results.jsonl", Result)}
    for name, problem in drawn.items():
        split = "validation" if rng.random() < _HELD_OUT else "train"
        for steps in ([step.kept.text for step in attempts[name].solution.steps], slipped(problem, rng)):
            labels = tuple(map(float, problem.right_steps(steps)))
            found.append(Solved(problem.question, tuple(steps), labels, split))
    return found


_HELD_OUT = 0.05


def _attempts(drawn: dict[str, world.PocketProblem]) -> Path:
    """Return the run folder of the attempts. A finished run is reused; an interrupted one is resumed."""
    folder = RUNS / "attempts"
    if not (folder / "summary.json").exists():
        changes = {"run_type": "random", "sampling": {"temperature": 0.7}}
        problems = [Problem(key, problem.question, str(problem.answer)) for key, problem in drawn.items()]
        watcher = PlainWatcher(Console(stderr=True))
        anyio.run(partial(bench, load_config("pocket", changes, "recipe"), folder, watcher, problems=problems))
    return folder


def slipped(problem: world.PocketProblem, rng: random.Random) -> list[str]:
    """Return the right solution with one digit of one step replaced."""
    steps = list(problem.steps)
    index = rng.randrange(len(steps))
    step = steps[index]
    position = rng.choice([at for at, character in enumerate(step) if character.isdigit()])
    steps[index] = (
        step[:position]
        + rng.choice([digit for digit in "0123456789" if digit != step[position]])
        + step[position + 1 :]
    )
    return steps


def make_router() -> None:
    """Train the router on the target's advantage by the PRM's scores at each step of a collection."""
    _remove(RUNS / "router")
    settings = RouterSettings(
        base="pocket:prm",
        prompt=world.PROMPT,
        margin=0.01,
        epochs=6,
        batch=32,
        learning_rate=5e-4,
        seed=SEED,
    )
    rows = [row for seed in ROUTER_SEEDS for row in read_rows(_collected(seed))]
    train_router(settings, rows, RUNS / "router")
    _publish(RUNS / "router", "router")


def make_specialist() -> None:
    """Train the draft further on multiplications: a target that is cheaper (``docs/explanation/method.md``)."""
    text = EncodedText.load(MODELS / "draft")
    model = LlamaForCausalLM.from_pretrained(
        MODELS / "draft", dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    settings = Settings(updates=600, batch=32, learning_rate=1e-3, seed=SEED)
    train_further(model, text, settings, SEED + 3, SPECIALIST_WEIGHTS)
    _save(model, RUNS / "specialist", text)


def _collected(seed: int) -> Path:
    """Return the run folder of ``arbiter collect pocket --data pocket-train:SEED --limit N --seed SEED``.

    Collections of different seeds can run side by side.
    """
    folder = RUNS / f"rows-{seed}"
    if not (folder / "summary.json").exists():
        data = {"source": f"pocket-train:{seed}", "limit": ROUTER_PROBLEMS}
        config = load_config("pocket", {"run_type": "generate", "seed": SEED, "data": data}, "recipe")
        plan = planned(config, None, 0.1, 0.1)
        watcher = PlainWatcher(Console(stderr=True))
        anyio.run(partial(bench, config, folder, watcher, problems=problems_of(config, plan)))
    return folder


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, name: str) -> None:
    """Replace the pocket model ``name`` by a trained checkpoint."""
    _remove(MODELS / name)
    shutil.copytree(folder, MODELS / name)


def _save(model: PreTrainedModel, out: Path, text: EncodedText) -> None:
    """Save in half precision, which keeps the repository small. The models are used in single precision."""
    model.half().save_pretrained(out)
    text.tokenizer.save_pretrained(out)


STAGES: dict[str, Callable[[], None]] = {
    "tokenizer": make_tokenizer,
    "draft": make_draft,
    "target": make_target,
    "reader": make_reader,
    "prm": make_prm,
    "router": make_router,
}

ON_REQUEST: dict[str, Callable[[], None]] = {"specialist": make_specialist}

if __name__ == "__main__":
    for stage in sys.argv[1:] or STAGES:
        (STAGES | ON_REQUEST)[stage]()
