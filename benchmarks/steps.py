"""Measure the pocket models: the share of right steps by kind, and how well the PRM separates right from wrong.

    python benchmarks/steps.py [--problems 256] [--seed 3] [--json]

The problems come from the test split: once of all kinds, once of the kinds that draft and target were trained on. A
step is judged after a right context. The PRM scores each right solution, and the same solution with one digit of one
step replaced. Its AUROC is the probability that a right step scores above a wrong one.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers is typed in part)

import itertools
import random
import sys
from pathlib import Path

import cyclopts
import msgspec
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import arbiter.pocket
from arbiter.backends.prompts import PromptTemplate
from arbiter.pocket import world
from arbiter.training.pocket import WRITER_WEIGHTS, slipped
from arbiter.training.pocket_lm import step_accuracy
from arbiter.training.prm_training import figures, solution_row
from arbiter.training.tokenizer import EncodedText
from arbiter.training.training_data import Solved

MODELS = Path(arbiter.pocket.__file__).parent / "models"
KINDS = ("+", "-", "*", "/", "mod", "answer", "solved")


def main(*, problems: int = 256, seed: int = 3, json: bool = False) -> None:
    """Measure the models on ``problems`` problems of ``seed``, and print a table."""
    drawn, rng = list(itertools.islice(world.problems(seed), problems)), random.Random(seed)
    text = EncodedText.load(MODELS / "target")
    found: dict[str, dict[str, float]] = {}
    taught = list(itertools.islice(world.problems(seed, weights=WRITER_WEIGHTS), problems))
    with torch.inference_mode():
        for name in ("draft", "target"):
            model = AutoModelForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32)
            found[name] = step_accuracy(model, text, drawn)
            found[f"{name}, as taught"] = step_accuracy(model, text, taught)
        solved = [
            Solved(problem.question, tuple(steps), tuple(map(float, problem.right_steps(steps))))
            for problem in drawn
            for steps in (problem.steps, slipped(problem, rng))
        ]
        template = PromptTemplate(world.PROMPT)
        rows = [solution_row(text.tokenizer, template, world.SEPARATOR, row, text.longest) for row in solved]
        judge = AutoModelForSequenceClassification.from_pretrained(MODELS / "prm", dtype=torch.float32)
        found["prm"] = {name: value or 0.0 for name, value in figures(judge, rows).items()}
    if json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        return
    lines = [f"| | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    prm = found.pop("prm")
    for name, shares in sorted(found.items(), key=lambda row: row[0].endswith("taught")):
        cells = (f"{shares[kind]:.3f}" if kind in shares else "–" for kind in KINDS)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    right, wrong = prm["right_1"], prm["right_0"]
    lines += ["", f"PRM: AUROC {prm['auroc']:.3f}; right steps above 0.5: {right:.3f}, wrong steps below: {wrong:.3f}"]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    cyclopts.run(main)
