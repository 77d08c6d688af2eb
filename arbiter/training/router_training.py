"""Train a router: a classifier that estimates ŷ = P(Δ > 0), from the rows of a collection."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from arbiter.backends.prompts import PromptTemplate
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import ConfigError, DataError
from arbiter.training.batches import IGNORED, Batch, Labelled
from arbiter.training.classifier_training import (
    LONGEST,
    ClassifierSettings,
    ClassifierTraining,
    check_settings,
    digest,
    logits_of,
    optimising,
)
from arbiter.training.heads import Base, open_base
from arbiter.training.inference import estimates
from arbiter.training.labels import CLASSES, advantages, balanced, edges_of, is_better, labels_of, target_names
from arbiter.training.metadata import Balance, CheckpointMetadata, Labels
from arbiter.training.metrics import auroc, best_temperature, log_loss, spearman
from arbiter.training.texts import RouterTexts
from arbiter.training.trainer import precision_of

log = structlog.get_logger("arbiter.training")


class RouterSettings(ClassifierSettings, frozen=True, kw_only=True):
    """The settings of a router's training. The defaults are the paper's.

    - ``annotate``: whether the router reads each step with its author.
    - ``targets``: the names of several targets, in the order of their heads (empty: in the order of the rows).
    - ``margin``: Δ counts as better above this value, to allow for the noise of the PRM.
    """

    annotate: bool = True
    targets: tuple[str, ...] = ()
    labels: Labels = "binary"
    margin: float = 0.0
    balance: Balance = "downsample"
    epochs: float = 3.0
    batch: int = 1024
    temperature_scaling: bool = True


WATCHED = 512
"""The number of validation rows evaluated during training. The final figures are over all of them."""


class _Part(msgspec.Struct, frozen=True):
    """A split: its labelled rows, and Δ of each target for each row."""

    rows: list[Labelled]
    deltas: list[list[float | None]]


def train_router(
    settings: RouterSettings, rows: Sequence[TrainingRow], out: Path, *, resume: bool = False
) -> CheckpointMetadata:
    """Train a router on the split ``train`` of ``rows`` and write it into the folder ``out``. Return its metadata.

    Its loss on the split ``validation``, the AUROC and Spearman's ρ between ŷ and Δ are logged ten times during
    training. Ctrl-C saves the state in ``out``; ``resume`` continues from there.

    Raises ``DataError`` if the rows cannot be learned from, ``ConfigError`` if a setting is wrong, ``BackendError`` if
    the base cannot be trained, ``RunError`` if ``out`` cannot be written.
    """
    targets = settings.targets or target_names(rows)
    train, held_out = _splits(settings, rows, targets)
    raw = [advantages(row, targets) for row in train]
    found = [_beyond(deltas, settings.margin) for deltas in raw]
    edges = _edges([delta for deltas in raw for delta in deltas if delta is not None], settings)
    balanced(
        [is_better(deltas) for deltas in found], settings.balance, settings.seed
    )  # may raise, before anything is loaded
    training = ClassifierTraining(out, resume)
    torch.manual_seed(settings.seed)
    base = open_base(settings.base, _outputs(settings.labels, len(targets)), settings.labels)
    longest = min(settings.max_length or LONGEST, base.context)
    texts = RouterTexts(base.tokenizer, PromptTemplate(settings.prompt, settings.annotate), settings.separator, longest)
    learned = _part(texts, train, targets, edges, settings)
    validation = _part(texts, held_out, targets, edges, settings)
    if not learned.rows:
        raise DataError(f"no row of the split 'train' is short enough for {longest} tokens: raise --max-length")
    better = [is_better(_beyond(deltas, settings.margin)) for deltas in learned.deltas]
    chosen = balanced(better, settings.balance, settings.seed)
    examples = [msgspec.structs.replace(learned.rows[index], weight=weight) for index, weight in chosen]
    metadata = msgspec.structs.replace(
        _metadata(settings, base, len(examples)),
        max_length=longest,
        edges=edges,
        targets=targets,
        rows={
            "train": len(examples),
            "validation": len(validation.rows),
            "too_long": len(train) + len(held_out) - len(learned.rows) - len(validation.rows),
        },
        data=digest(rows),
    )
    log.info("rows", head=base.head, **metadata.rows)
    if (done := training.finished(metadata)) is not None:
        return done

    watched = _Part(validation.rows[:WATCHED], validation.deltas[:WATCHED])

    def evaluate(part: _Part = watched) -> dict[str, float | None]:
        return _figures(_logits(base, part, settings.labels), part, settings)

    model = training.run(
        base, examples, _losses(settings.labels), optimising(settings, len(examples)), metadata, evaluate
    )
    temperature = _calibrated(model, base, validation, settings)
    return training.save(base, msgspec.structs.replace(metadata, temperature=temperature, figures=evaluate(validation)))


def _splits(
    settings: RouterSettings, rows: Sequence[TrainingRow], targets: Sequence[str]
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Return the rows of the training and of the validation split.

    Raises ``ConfigError`` or ``DataError`` if settings or rows are wrong.
    """
    check_settings(settings)
    if len(targets) > 1 and settings.labels != "binary":
        raise ConfigError(f"--labels {settings.labels} is for one target, but the rows have {', '.join(targets)}")
    if unknown := [name for name in target_names(rows) if targets and name not in targets]:
        raise DataError(f"the rows have a target {unknown[0]!r}; the router has heads for {', '.join(targets)}")
    train = [row for row in rows if row.split == "train"]
    if not train:
        raise DataError(f"none of the {len(rows)} rows is in the split 'train': collect some, or set their split")
    held_out = [row for row in rows if row.split == "validation"]
    if not held_out:
        log.warning("no row is in the split 'validation': no figures, and no temperature scaling")
    return train, held_out


def _outputs(labels: Labels, targets: int) -> int:
    """Return the number of labels of the head during training."""
    match labels:
        case "binary":
            return 2 * max(1, targets)
        case "ordinal":
            return CLASSES[labels] - 1
        case _:
            return CLASSES[labels]


def _beyond(deltas: Sequence[float | None], margin: float) -> list[float | None]:
    """Return Δ − margin for each Δ. The router learns whether it is above 0."""
    return [None if delta is None else delta - margin for delta in deltas]


def _edges(deltas: Sequence[float], settings: RouterSettings) -> tuple[float, ...]:
    """Return the edges of Δ − margin between the classes. Δ from 0 to the margin is in the class below the middle."""
    clear = [delta for delta in deltas if not 0 < delta <= settings.margin]
    return tuple(edge - settings.margin if edge else 0.0 for edge in edges_of(clear, settings.labels))


def _part(
    texts: RouterTexts,
    rows: Sequence[TrainingRow],
    targets: Sequence[str],
    edges: Sequence[float],
    settings: RouterSettings,
) -> _Part:
    """Return the labelled rows and their Δ, without those that are too long."""
    found = _Part([], [])
    for row, ids in zip(rows, texts.ids(rows), strict=True):
        if ids is not None:
            deltas = advantages(row, targets)
            found.rows.append(Labelled(ids, labels_of(_beyond(deltas, settings.margin), edges, settings.labels)))
            found.deltas.append(deltas)
    return found


def _metadata(settings: RouterSettings, base: Base, examples: int) -> CheckpointMetadata:
    """Return the metadata that follows from the settings. The caller adds what depends on the data."""
    optimiser = optimising(settings, examples)
    return CheckpointMetadata(
        kind="router",
        base=settings.base,
        head=base.head,
        labels=settings.labels,
        margin=settings.margin,
        prompt=settings.prompt,
        annotate=settings.annotate,
        separator=settings.separator,
        max_length=0,
        balance=settings.balance,
        epochs=settings.epochs,
        updates=optimiser.updates,
        batch=optimiser.batch,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        lora=settings.lora,
        precision=precision_of(optimiser),
    )


def _losses(labels: Labels) -> Any:  # noqa: ANN401 - a Loss
    """Return the loss: the cross-entropy over the classes of each target or each ordinal threshold, summed."""

    def loss(model: Any, batch: Batch) -> Tensor:  # noqa: ANN401 - it may be wrapped
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        expected, weights = batch["labels"], batch["weights"]
        if labels == "ordinal":
            each = functional.binary_cross_entropy_with_logits(logits, expected.float(), reduction="none")
        else:
            heads = logits.unflatten(-1, (expected.shape[1], -1))  # (rows, heads, classes)
            each = functional.cross_entropy(heads.transpose(1, 2), expected, reduction="none", ignore_index=IGNORED)
        return (each.sum(-1) * weights).mean()

    return loss


def _logits(base: Base, part: _Part, labels: Labels) -> Tensor:
    """Return the head's logits for a split: shape (rows, labels). Ordinal ones become a pair (not better, better)."""
    logits = logits_of(base, part.rows)
    if labels == "ordinal" and logits.shape[-1] > 2:  # the threshold at 0 is the middle one
        half = logits[:, logits.shape[-1] // 2, None] / 2
        return torch.cat([-half, half], -1)
    return logits


def _figures(logits: Tensor, part: _Part, settings: RouterSettings) -> dict[str, float | None]:
    """Return the log loss of ŷ, the AUROC and Spearman's ρ with Δ, over all rows and targets of a split."""
    if not part.rows:
        return {}
    estimated = estimates(logits, settings.labels in ("4-class", "10-class"))
    pairs = [
        (float(value), delta)
        for values, deltas in zip(estimated.tolist(), part.deltas, strict=True)
        for value, delta in zip(values, deltas, strict=True)
        if delta is not None
    ]
    values, deltas = [value for value, _ in pairs], [delta for _, delta in pairs]
    better = [delta > settings.margin for delta in deltas]
    found = {
        "validation_loss": log_loss(torch.tensor(values), torch.tensor(better)),
        "auroc": auroc(values, better),
        "spearman": spearman(values, deltas),
    }
    return {name: None if value is None else round(value, 4) for name, value in found.items()}


@torch.no_grad()
def _calibrated(model: PreTrainedModel, base: Base, part: _Part, settings: RouterSettings) -> tuple[float, ...]:
    """Fit the temperature of each head on ``part`` and divide the head's weights by it. Return the temperatures.

    Ordinal thresholds are replaced by the one at 0, as a pair of labels, which every engine serves.
    """
    head: Any = model.score
    if settings.labels == "ordinal":
        half = head.weight[head.weight.shape[0] // 2, None] / 2
        head.weight = torch.nn.Parameter(torch.cat([-half, half]))
        head.out_features = model.config.num_labels = 2
    heads = 1 if settings.labels != "binary" else head.weight.shape[0] // 2
    if not settings.temperature_scaling or not part.rows:
        return (1.0,) * heads
    logits = logits_of(base, part.rows).unflatten(-1, (heads, -1))
    found: list[float] = []
    for index in range(heads):
        known = [row for row, deltas in enumerate(part.deltas) if deltas[index] is not None]
        better = torch.tensor([(part.deltas[row][index] or 0.0) > settings.margin for row in known])
        both = len(set(better.tolist())) == 2  # otherwise the best temperature is 0
        classes = settings.labels in ("4-class", "10-class")
        found.append(best_temperature(logits[known, index], better, classes) if both else 1.0)
    scale = torch.tensor(found).repeat_interleave(head.weight.shape[0] // heads)
    head.weight.div_(scale[:, None].to(head.weight.device))
    return tuple(found)
