"""Train a process reward model: a value at the last token of each step, whose sigmoid is h(x, z)."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from arbiter.backends.prompts import PromptTemplate
from arbiter.protocols.errors import ConfigError, DataError
from arbiter.protocols.records import Transcript
from arbiter.training.batches import IGNORED, Batch, Labelled, collated
from arbiter.training.classifier_training import (
    LONGEST,
    ROWS_AT_ONCE,
    ClassifierSettings,
    ClassifierTraining,
    check_settings,
    digest,
    optimising,
)
from arbiter.training.heads import Base, open_base
from arbiter.training.metadata import CheckpointMetadata
from arbiter.training.metrics import auroc
from arbiter.training.silence import quiet
from arbiter.training.trainer import Loss, precision_of
from arbiter.training.training_data import Solved

log = structlog.get_logger("arbiter.training")


class PrmSettings(ClassifierSettings, frozen=True, kw_only=True):
    """The settings of a process reward model's training. ``batch`` counts solutions.

    With ``layers``, only that many of the last layers, the final norm and the head are trained (None: everything).
    """

    layers: int | None = None


def train_prm(settings: PrmSettings, rows: Sequence[Solved], out: Path, *, resume: bool = False) -> CheckpointMetadata:
    """Train a process reward model on the split ``train`` of ``rows`` and write it into ``out``. Return its metadata.

    The accuracy by class and the AUROC on the split ``validation`` are logged ten times during training. Ctrl-C saves
    the state in ``out``; ``resume`` continues from there. Raises as ``train_router`` does.
    """
    train, held_out = _splits(settings, rows)
    training = ClassifierTraining(out, resume)
    torch.manual_seed(settings.seed)
    base = open_base(settings.base, 1, "value")
    longest = min(settings.max_length or LONGEST, base.context)
    examples, validation = (_examples(base, settings, part, longest) for part in (train, held_out))
    share = _share_of_right(examples)
    if settings.layers is not None:
        train_only_last(base.model, settings.layers)
    metadata = msgspec.structs.replace(
        _metadata(settings, base, len(examples)),
        max_length=longest,
        rows={
            "train": len(examples),
            "validation": len(validation),
            "too_long": len(train) + len(held_out) - len(examples) - len(validation),
        },
        data=digest(rows),
    )
    log.info("solutions", head=base.head, **metadata.rows)
    if (done := training.finished(metadata)) is not None:
        return done

    def evaluate() -> dict[str, float | None]:
        return figures(base.model, validation)

    training.run(base, examples, value_loss(share), optimising(settings, len(examples)), metadata, evaluate)
    return training.save(base, msgspec.structs.replace(metadata, figures=evaluate()))


def solution_row(tokenizer: Any, template: PromptTemplate, separator: str, row: Solved, longest: int) -> Labelled:  # noqa: ANN401
    """Return a solution as a scorer reads it, with each step's label at its last token. Cuts the end if too long."""
    text, ends = template.render(Transcript(row.question), separator), list[int]()
    for step in row.steps:
        text += step + separator
        ends.append(len(text))
    with quiet():  # no warning for a text that is too long: it is cut below
        read = tokenizer(text, return_offsets_mapping=True)
    ids, offsets = cast("list[int]", read["input_ids"]), cast("list[tuple[int, int]]", read["offset_mapping"])
    labels: list[float] = [IGNORED] * len(ids)
    token = 0
    for end, label in zip(ends, row.labels, strict=True):
        while token + 1 < len(ids) and offsets[token][1] < end:
            token += 1
        labels[token] = float(label)
    return Labelled(ids[:longest], labels[:longest])


def train_only_last(model: PreTrainedModel, layers: int) -> None:
    """Freeze all but the last ``layers`` layers, the final norm and the head.

    Raises ``ConfigError`` if the model does not have that many layers.
    """
    backbone, head = cast("Any", model.base_model), cast("Any", model).score
    if not 0 < layers <= len(backbone.layers):
        raise ConfigError(f"--layers {layers}: the base has {len(backbone.layers)}")
    model.requires_grad_(requires_grad=False)
    for part in (*backbone.layers[-layers:], backbone.norm, head):
        part.requires_grad_(requires_grad=True)


def value_loss(share: float) -> Loss:
    """Return the cross-entropy of the values at labelled tokens, weighted so that right and wrong count the same.

    ``share`` is the share of right labels.
    """
    right = min(max(share, 0.01), 0.99)

    def loss(model: Any, batch: Batch) -> Tensor:  # noqa: ANN401 - it may be wrapped
        values, labels = _values(model, batch)
        weight = labels * 0.5 / right + (1 - labels) * 0.5 / (1 - right)
        return functional.binary_cross_entropy_with_logits(values, labels, weight)

    return loss


@torch.inference_mode()
def figures(model: PreTrainedModel, rows: Sequence[Labelled]) -> dict[str, float | None]:
    """Return the accuracy by class, and the probability that a right step scores above a wrong one (AUROC)."""
    values: list[float] = []
    right: list[bool] = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        batch = collated(rows[start : start + ROWS_AT_ONCE], int(cast("Any", model.config).pad_token_id))
        read, labels = _values(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
        values += read.tolist()
        right += (labels > 0.5).tolist()
    if not rows:
        return {}
    positive = [(value > 0, label) for value, label in zip(values, right, strict=True)]
    hits = {kind: [hit for hit, label in positive if label is kind] for kind in (True, False)}
    found: dict[str, float | None] = {
        "right_1": _share(hits[True]),
        "right_0": _share([not hit for hit in hits[False]]),
        "auroc": auroc(values, right),
    }
    return {name: None if value is None else round(value, 4) for name, value in found.items()}


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _values(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Return the values at all labelled tokens, and their labels: both of shape (labelled,)."""
    read = {name: batch[name] for name in ("input_ids", "attention_mask")}
    hidden = model(**read, output_hidden_states=True).hidden_states[-1]
    head = next(module for name, module in model.named_modules() if name.rpartition(".")[2] == "score")
    labelled = batch["labels"] != IGNORED
    return head(hidden[labelled])[:, 0].float(), batch["labels"][labelled].float()


def _splits(settings: PrmSettings, rows: Sequence[Solved]) -> tuple[list[Solved], list[Solved]]:
    check_settings(settings)
    if settings.layers is not None and settings.lora is not None:
        raise ConfigError("--layers and --lora both select what is trained: use only one of them")
    train = [row for row in rows if row.split == "train"]
    if not train:
        raise DataError(f"none of the {len(rows)} solutions is in the split 'train'")
    held_out = [row for row in rows if row.split == "validation"]
    if not held_out:
        log.warning("no solution is in the split 'validation': no figures")
    return train, held_out


def _examples(base: Base, settings: PrmSettings, rows: Sequence[Solved], longest: int) -> list[Labelled]:
    """Return the solutions with at least one step within the length limit."""
    template = PromptTemplate(settings.prompt)
    found = [solution_row(base.tokenizer, template, settings.separator, row, longest) for row in rows]
    return [row for row in found if any(label != IGNORED for label in row.labels)]


def _share_of_right(rows: Sequence[Labelled]) -> float:
    """Return the mean label. Raises ``DataError`` if all labels are the same, or there are none."""
    labels = [label for row in rows for label in row.labels if label != IGNORED]
    if not labels or min(labels) == max(labels):
        problem = f"all labels are {labels[0]:g}" if labels else "no step is short enough"
        raise DataError(f"{problem} in the split 'train': a process reward model needs right and wrong steps")
    return math.fsum(labels) / len(labels)


def _metadata(settings: PrmSettings, base: Base, examples: int) -> CheckpointMetadata:
    """Return the metadata that follows from the settings. The caller adds what depends on the data."""
    optimiser = optimising(settings, examples)
    return CheckpointMetadata(
        kind="prm",
        base=settings.base,
        head=base.head,
        labels="value",
        prompt=settings.prompt,
        annotate=False,
        separator=settings.separator,
        max_length=0,
        balance="weights",
        epochs=settings.epochs,
        updates=optimiser.updates,
        batch=optimiser.batch,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        lora=settings.lora,
        layers=settings.layers,
        precision=precision_of(optimiser),
    )
