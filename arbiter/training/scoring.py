"""Training of the pocket PRM and router: sequence classifiers read at the last token of a step.

Both read the text that the ring's scorers read (``PromptTemplate.render_candidate``). The PRM learns from all
steps of a solution in one pass; the router from one row a step, since its candidate may not be in its history.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaForSequenceClassification, PreTrainedModel

from arbiter.backends.prompts import PromptTemplate
from arbiter.pocket import world
from arbiter.rows import Row
from arbiter.training.loop import IGNORED, Batch, Labelled, Settings, collated, fit, windows
from arbiter.training.tokenizer import Text
from protocols.records import Transcript


def solution_row(text: Text, problem: world.PocketProblem, steps: Sequence[str]) -> Labelled:
    """A solution as a model wrote it: at the last token of each step, whether all is right up to there."""
    ids = text.ids(world.PROMPT.format(question=problem.question))
    labels = [IGNORED] * len(ids)
    for step, right in zip(steps, problem.right_steps(steps), strict=True):
        written = text.ids(step + world.SEPARATOR)
        ids += written
        labels += [IGNORED] * (len(written) - 1) + [int(right)]
    return Labelled(ids, labels)


def slipped(problem: world.PocketProblem, rng: random.Random) -> list[str]:
    """The right solution with one digit of one step replaced: the smallest mistake that there is."""
    steps = list(problem.steps)
    index = rng.randrange(len(steps))
    step = steps[index]
    place = rng.choice([at for at, character in enumerate(step) if character.isdigit()])
    steps[index] = (
        step[:place] + rng.choice([digit for digit in "0123456789" if digit != step[place]]) + step[place + 1 :]
    )
    return steps


def router_row(text: Text, row: Row) -> Labelled:
    """A step for the router, as it reads it: history annotated, the draft's candidate last, y = 1[Δ > 0] there."""
    template = PromptTemplate(world.PROMPT, annotate=True)
    context = Transcript(question=row.question, steps=row.history)
    ids = text.ids(template.render_candidate(context, row.draft, "draft", world.SEPARATOR))
    return Labelled(ids, [IGNORED] * (len(ids) - 1) + [int(row.advantage > 0)])


def balanced(rows: Sequence[Labelled], seed: int) -> list[Labelled]:
    """As many rows of each class as the rarer one has: the majority is downsampled."""
    classes: dict[int, list[Labelled]] = {0: [], 1: []}
    for row in rows:
        classes[row.labels[-1]].append(row)
    rng, size = random.Random(seed), min(len(found) for found in classes.values())
    kept = [row for found in classes.values() for row in rng.sample(found, size)]
    rng.shuffle(kept)
    return kept


def train_prm(
    model: LlamaForSequenceClassification, text: Text, rows: Sequence[Labelled], settings: Settings, seed: int
) -> None:
    """Teach a value head in place: the sigmoid of its one logit is h(x, z). One row in twenty is held out."""
    torch.manual_seed(seed)
    held_out = rows[: len(rows) // 20]
    batches = _batches(text, rows[len(held_out) :], settings.batch, seed)
    fit(model, batches, _value_loss, settings, lambda: evaluated(model, text, held_out))


def train_router(
    prm: Path,
    text: Text,
    rows: Sequence[Labelled],
    settings: Settings,
    seed: int,
) -> LlamaForSequenceClassification:
    """Two classes, starting from the PRM: class 1 ("the target writes a better step") from its negated value head."""
    torch.manual_seed(seed)
    reward = LlamaForSequenceClassification.from_pretrained(prm, dtype=torch.float32)
    model = LlamaForSequenceClassification.from_pretrained(
        prm, num_labels=2, dtype=torch.float32, ignore_mismatched_sizes=True
    )
    with torch.no_grad():
        model.score.weight.copy_(torch.cat([reward.score.weight, -reward.score.weight]) / 2)
    held_out = rows[: len(rows) // 20]
    batches = _batches(text, rows[len(held_out) :], settings.batch, seed)
    fit(model, batches, _class_loss, settings, lambda: evaluated(model, text, held_out))
    return model


def _batches(text: Text, rows: Sequence[Labelled], size: int, seed: int) -> Iterator[Batch]:
    """Endless epochs, each in an order of its own."""
    rng = random.Random(seed)
    while True:
        order = rng.sample(rows, len(rows))  # so that rows of equal length meet others each time
        yield from (collated(window, text.pad) for window in windows(order, size, rng))


def _labelled_logits(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits at all labelled tokens, and their labels."""
    backbone: Any = model.model
    head: Any = model.score
    hidden = backbone(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    labelled = batch["labels"] != IGNORED
    return head(hidden[labelled]), batch["labels"][labelled]


def _value_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Cross-entropy, the rarer class weighted up to the other one: wrong ones are few."""
    logits, labels = _labelled_logits(model, batch)
    right = labels.float().mean().clamp(0.01, 0.99)
    weight = torch.where(labels == 1, 0.5 / right, 0.5 / (1 - right))
    return functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float(), weight)


def _class_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    logits, labels = _labelled_logits(model, batch)
    return functional.cross_entropy(logits, labels)


def evaluated(model: PreTrainedModel, text: Text, rows: Sequence[Labelled]) -> dict[str, float]:
    """Accuracy by class, and the chance that a positive step scores above a negative one (AUROC)."""
    scores: list[float] = []
    labels: list[int] = []
    for start in range(0, len(rows), 64):
        logits, found = _labelled_logits(model, collated(rows[start : start + 64], text.pad))
        value = logits[:, 0] if logits.shape[-1] == 1 else logits[:, 1] - logits[:, 0]
        scores += value.tolist()
        labels += found.tolist()
    positive = [score for score, label in zip(scores, labels, strict=True) if label]
    negative = [score for score, label in zip(scores, labels, strict=True) if not label]
    return {
        "right_1": round(sum(score > 0 for score in positive) / len(positive), 3),
        "right_0": round(sum(score <= 0 for score in negative) / len(negative), 3),
        "auroc": round(auroc(positive, negative), 3),
    }


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The probability that a random positive outranks a random negative, ties counted half (Mann-Whitney)."""
    ranked = sorted([(score, 1) for score in positive] + [(score, 0) for score in negative])
    total, index = 0.0, 0
    while index < len(ranked):
        end = index
        while end < len(ranked) and ranked[end][0] == ranked[index][0]:
            end += 1
        mean_rank = (index + 1 + end) / 2
        total += mean_rank * sum(label for _, label in ranked[index:end])
        index = end
    pairs = len(positive) * len(negative)
    return (total - len(positive) * (len(positive) + 1) / 2) / pairs if pairs else float("nan")
