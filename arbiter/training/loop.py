"""What all training shares: labelled rows, batches of similar length, and one optimisation loop."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers and torch are typed in part)

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import structlog
import torch
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

Batch = dict[str, torch.Tensor]

IGNORED = -100
"""The label of a token that is read and not learned (the value that torch's losses skip)."""

log = structlog.get_logger("arbiter.training")


class Labelled(msgspec.Struct, frozen=True):
    """Token ids, and a label for each of them (``IGNORED`` where there is none)."""

    ids: list[int]
    labels: list[int]


class Settings(msgspec.Struct, frozen=True):
    """How long and how fast to train.

    ``updates`` optimiser steps of ``batch`` rows each; ``learning_rate`` is the peak, reached after
    ``warmup`` (a share of ``updates``, 0 to 1).
    """

    updates: int
    batch: int
    learning_rate: float
    warmup: float = 0.05
    weight_decay: float = 0.01


def windows(rows: Iterable[Labelled], size: int, rng: random.Random) -> list[list[Labelled]]:
    """``rows`` in batches of ``size``: equal lengths together, so that little is padding; in random order."""
    order = sorted(rows, key=lambda row: len(row.ids))
    found = [order[start : start + size] for start in range(0, len(order), size)]
    rng.shuffle(found)
    return found


def collated(rows: Sequence[Labelled], pad: int) -> Batch:
    """Tensors of shape (rows, longest row); padded on the right, since training needs no shared end."""
    width = max(len(row.ids) for row in rows)
    missing = [width - len(row.ids) for row in rows]
    return {
        "input_ids": torch.tensor([row.ids + [pad] * lack for row, lack in zip(rows, missing, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - lack) + [0] * lack for lack in missing]),
        "labels": torch.tensor([row.labels + [IGNORED] * lack for row, lack in zip(rows, missing, strict=True)]),
    }


def fit(
    model: PreTrainedModel,
    batches: Iterator[Batch],
    loss: Callable[[PreTrainedModel, Batch], torch.Tensor],
    settings: Settings,
    evaluate: Callable[[], dict[str, float]],
) -> None:
    """Train ``model`` in place with AdamW, linear warm-up and decay, and clipped gradients.

    ``evaluate`` is asked ten times on the way, and its figures are logged.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    schedule = get_linear_schedule_with_warmup(optimizer, int(settings.warmup * settings.updates), settings.updates)
    running = 0.0
    model.train()
    for update in range(1, settings.updates + 1):
        value = loss(model, next(batches))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        running = value.item() if update == 1 else 0.98 * running + 0.02 * value.item()
        if update % max(1, settings.updates // 10) == 0 or update == settings.updates:
            model.eval()
            with torch.inference_mode():
                log.info("training", update=update, of=settings.updates, loss=round(running, 4), **evaluate())
            model.train()
    model.eval()
