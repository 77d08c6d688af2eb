"""Apply a trained checkpoint to rows: ŷ of a router, h of a process reward model."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from arbiter.backends.in_process.transformers_loading import load
from arbiter.backends.prompts import PromptTemplate
from arbiter.data.training_rows import TrainingRow
from arbiter.pocket import resolved
from arbiter.protocols.errors import BackendError, ConfigError, DataError
from arbiter.training.metadata import NAME, CheckpointMetadata, read_metadata
from arbiter.training.texts import RouterTexts


def estimates(logits: Tensor, classes: bool = False) -> Tensor:
    """Return ŷ = P(Δ > 0) for each target from a head's logits: shape (rows, labels) to (rows, targets).

    One label is a value; its sigmoid is h. 2n labels are n pairs (not better, better). With ``classes``, the labels are
    bins of Δ from the lowest to the highest; the upper half is above 0.
    """
    labels = logits.shape[-1]
    if labels == 1:
        return torch.sigmoid(logits)
    if classes:
        return torch.softmax(logits, -1)[:, labels // 2 :].sum(-1, keepdim=True)
    return torch.softmax(logits.unflatten(-1, (labels // 2, 2)), -1)[..., 1]


@torch.inference_mode()
def predict(
    name: str,
    rows: Sequence[TrainingRow],
    *,
    template: PromptTemplate | None = None,
    separator: str | None = None,
    batch: int = 64,
    device: str = "auto",
) -> list[list[float]]:
    """Return the estimates of the checkpoint ``name`` for the draft's step of each row.

    ``name`` is a folder, a hub name, or ``pocket:ROLE``. The inner lists have ŷ in [0, 1] for each target (one for a
    router of a single target), or h for a process reward model of one label. ``template`` and ``separator`` default to
    those of training, in the checkpoint's ``arbiter.json``. A text that is too long loses its oldest steps, as in
    training. ``batch`` is in rows.

    Raises ``ConfigError`` if the template is unknown, ``BackendError`` if the model cannot be loaded, and ``DataError``
    that names a row whose question and step are longer than the model's context.
    """
    metadata = read_metadata(folder_of(name))
    template, separator = _reading(name, metadata, template, separator)
    loaded = load(name, "scorer", device)
    labels = cast("int", loaded.model.config.num_labels)
    if labels > 2 and (metadata is None or labels % 2):
        raise BackendError(f"{name} has {labels} labels, but no {NAME} that says what they mean")
    longest = min(loaded.context, metadata.max_length) if metadata else loaded.context
    texts = RouterTexts(loaded.tokenizer, template, separator, longest)
    ids = [_checked(row, found, longest) for row, found in zip(rows, texts.ids(rows), strict=True)]
    classes = metadata is not None and metadata.labels in ("4-class", "10-class")
    model: Any = loaded.model
    found: dict[int, list[float]] = {}
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        padded = loaded.tokenizer.pad({"input_ids": [ids[index] for index in chosen]}, return_tensors="pt")
        values = estimates(model(**padded.to(loaded.device)).logits.float(), classes)
        found.update(zip(chosen, values.tolist(), strict=True))
    return [found[index] for index in range(len(ids))]


def folder_of(name: str) -> Path:
    """Return the folder of a checkpoint if it is on this machine."""
    return Path(resolved(name))


def _reading(
    name: str, metadata: CheckpointMetadata | None, template: PromptTemplate | None, separator: str | None
) -> tuple[PromptTemplate, str]:
    if template is None:
        if metadata is None:
            raise ConfigError(
                f"it is unknown how {name} reads a step, since it has no {NAME}: name its prompt, and whether steps "
                "are annotated with their author"
            )
        template = PromptTemplate(metadata.prompt, metadata.annotate)
    if separator is None:
        separator = metadata.separator if metadata else "\n\n"
    return template, separator


def _checked(row: TrainingRow, ids: list[int] | None, longest: int) -> list[int]:
    if ids is None:
        raise DataError(
            f"problem {row.problem!r}, step {row.step}: question and step have more than {longest} tokens, "
            "which the model cannot read; leave the row out"
        )
    return ids
