"""One optimisation loop for every pocket model: AdamW, linear warm-up, linear decay, clipped gradients."""

from collections.abc import Callable, Iterator

import msgspec
import structlog
import torch
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

Batch = dict[str, torch.Tensor]

log = structlog.get_logger("arbiter.training")


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


def fit(
    model: PreTrainedModel,
    batches: Iterator[Batch],
    loss: Callable[[PreTrainedModel, Batch], torch.Tensor],
    settings: Settings,
    evaluate: Callable[[], dict[str, float]],
) -> None:
    """Train ``model`` in place; ``evaluate`` is asked ten times on the way, and its figures are logged."""
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
