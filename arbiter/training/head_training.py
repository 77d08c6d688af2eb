"""Train a head on the draft: a small network that estimates ŷ = P(Δ > 0) from the draft's own numbers at a step."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch is typed in part)

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog
import torch
from torch import Tensor

from arbiter.backends.draft_features import FeatureSet
from arbiter.backends.head_model import HeadMetadata, Shape
from arbiter.backends.in_process.transformers_loading import Checkpoint, load
from arbiter.backends.prompts import PromptTemplate
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import DataError
from arbiter.training.checkpoint import claim
from arbiter.training.classifier_training import digest
from arbiter.training.head_inference import readings_of
from arbiter.training.head_networks import HeadNetwork, Learned, fitted, one_thread, save_head
from arbiter.training.labels import advantages, balanced, is_better, target_names
from arbiter.training.metadata import Balance
from arbiter.training.metrics import auroc, best_temperature, log_loss, spearman

log = structlog.get_logger("arbiter.training")

SHAPES: tuple[Shape, ...] = ("linear", "hidden layer")
FOLDS = 5


class HeadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a head's training.

    - ``draft``: the draft model, loaded in this process: a folder, a hub name or ``pocket:draft``.
    - ``prompt`` (with ``{question}``), ``annotate``, ``separator``: how the draft reads a context in a run.
    - ``features``: which numbers of the draft the head reads.
    - ``targets``, ``margin``, ``balance``, ``temperature_scaling``, ``seed``: as in ``RouterSettings``.
    """

    draft: str
    prompt: str
    annotate: bool = False
    separator: str = "\n\n"
    features: FeatureSet = "logprobs"
    targets: tuple[str, ...] = ()
    margin: float = 0.0
    balance: Balance = "weights"
    temperature_scaling: bool = True
    seed: int = 0


class _Part(msgspec.Struct, frozen=True):
    """The rows of a split that the draft can read, with their features and Δ − margin of each target."""

    rows: list[TrainingRow]
    features: Tensor
    deltas: list[list[float | None]]

    @property
    def labels(self) -> Tensor:
        """1 where the target is better, 0 where it is not, NaN without a candidate of the target: (rows, targets)."""
        return torch.tensor(
            [[float("nan") if delta is None else float(delta > 0) for delta in row] for row in self.deltas],
            dtype=torch.float64,
        )


def train_head(settings: HeadSettings, rows: Sequence[TrainingRow], out: Path) -> HeadMetadata:
    """Train a head on the split ``train`` of ``rows`` and write it into the new folder ``out``. Return its metadata.

    The draft reads each row once. A linear head and one with a hidden layer are compared by their AUROC in a cross
    validation over problems; the better one is trained on all rows and calibrated on the split ``validation``. Equal
    settings and rows give an equal head.

    Raises ``DataError`` if the rows cannot be learned from, ``ConfigError`` if ``out`` is not empty, ``BackendError``
    if the draft cannot be loaded, and ``RunError`` if ``out`` cannot be written.
    """
    targets = settings.targets or target_names(rows)
    train, held_out = ([row for row in rows if row.split == split] for split in ("train", "validation"))
    if not train:
        raise DataError(f"none of the {len(rows)} rows is in the split 'train': collect some, or set their split")
    if not held_out:
        log.warning("no row is in the split 'validation': no figures, and no temperature scaling")
    _weights(train, targets, settings)  # may raise, before anything is loaded
    claim(out, resume=False)
    loaded = load(settings.draft, "generator")
    learned, validation = (_part(loaded, part, targets, settings) for part in (train, held_out))
    if not learned.rows:
        raise DataError(f"no row of the split 'train' is short enough for the {loaded.context} tokens of the draft")
    examples = _examples(learned, targets, settings)
    with one_thread():
        compared = {shape: _cross_validated(shape, learned, examples, settings.seed) for shape in SHAPES}
        shape = max(SHAPES, key=lambda one: compared[one] or 0.0)  # the first of equals: the linear one
        network = fitted(shape, examples, settings.seed)
    temperature = _calibrated(network, validation, settings)
    metadata = HeadMetadata(
        draft=settings.draft,
        prompt=settings.prompt,
        annotate=settings.annotate,
        separator=settings.separator,
        features=settings.features,
        hidden=_hidden(loaded) if settings.features.endswith("hidden") else 0,
        shape=shape,
        cross_validation={name: round(value, 4) for name, value in compared.items() if value is not None},
        targets=tuple(targets),
        margin=settings.margin,
        balance=settings.balance,
        seed=settings.seed,
        temperature=temperature,
        rows={
            "train": len(examples.labels),
            "validation": len(validation.rows),
            "too_long": len(train) + len(held_out) - len(learned.rows) - len(validation.rows),
        },
        data=digest(rows),
        figures=_figures(network, validation),
    )
    save_head(network, metadata, out)
    return metadata


def _hidden(loaded: Checkpoint) -> int:
    return int(loaded.model.config.get_text_config().hidden_size)


def _part(loaded: Checkpoint, rows: Sequence[TrainingRow], targets: Sequence[str], settings: HeadSettings) -> _Part:
    readings = readings_of(loaded, rows, PromptTemplate(settings.prompt, settings.annotate), settings.separator)
    read = [(row, reading) for row, reading in zip(rows, readings, strict=True) if reading is not None]
    features = [reading.features(settings.features) for _, reading in read]
    kept = [row for row, _ in read]
    return _Part(kept, torch.tensor(features, dtype=torch.float64), [_deltas(row, targets, settings) for row in kept])


def _deltas(row: TrainingRow, targets: Sequence[str], settings: HeadSettings) -> list[float | None]:
    return [None if delta is None else delta - settings.margin for delta in advantages(row, targets)]


def _weights(rows: Sequence[TrainingRow], targets: Sequence[str], settings: HeadSettings) -> list[tuple[int, float]]:
    better = [is_better(_deltas(row, targets, settings)) for row in rows]
    return balanced(better, settings.balance, settings.seed)


def _examples(part: _Part, targets: Sequence[str], settings: HeadSettings) -> Learned:
    """Return the rows to learn from, balanced."""
    chosen = _weights(part.rows, targets, settings)
    indices = torch.tensor([index for index, _ in chosen])
    weights = torch.tensor([weight for _, weight in chosen], dtype=torch.float64)
    problems = [part.rows[index].problem for index, _ in chosen]
    return Learned(part.features[indices], part.labels[indices], weights, problems)


def _cross_validated(shape: Shape, part: _Part, examples: Learned, seed: int) -> float | None:
    """Return the AUROC of ŷ on held-out folds of problems, over all targets; None with fewer than two problems."""
    problems = sorted({row.problem for row in part.rows})
    random.Random(seed).shuffle(problems)
    fold = {problem: index % FOLDS for index, problem in enumerate(problems)}
    of_example = torch.tensor([fold[problem] for problem in examples.problems])
    of_row = torch.tensor([fold[row.problem] for row in part.rows])
    logits = torch.full_like(part.labels, float("nan"))
    for index in range(min(FOLDS, len(problems))):
        others, held_out = of_example != index, of_row == index
        if others.any() and held_out.any():
            logits[held_out] = fitted(shape, examples.at(others), seed).logits(part.features[held_out])
    known = ~(part.labels.isnan() | logits.isnan())
    return auroc(logits[known].tolist(), (part.labels[known] > 0).tolist())


def _calibrated(network: HeadNetwork, part: _Part, settings: HeadSettings) -> tuple[float, ...]:
    """Fit the temperature of each estimate on ``part``, and divide the last layer by it. Return the temperatures."""
    count = network.last.out_features
    if not settings.temperature_scaling or not part.rows:
        return (1.0,) * count
    logits, labels, found = network.logits(part.features), part.labels, list[float]()
    for index in range(count):
        known = ~labels[:, index].isnan()
        happened = labels[known, index]
        both = 0 < int(happened.sum()) < len(happened)  # otherwise the best temperature is 0
        found.append(best_temperature(logits[known, index, None], happened, classes=False) if both else 1.0)
    network.divide(found)
    return tuple(found)


def _figures(network: HeadNetwork, part: _Part) -> dict[str, float | None]:
    """Return the log loss of ŷ, the AUROC and Spearman's ρ with Δ, over all rows and targets of a split."""
    if not part.rows:
        return {}
    known = ~part.labels.isnan()
    estimated, happened = torch.sigmoid(network.logits(part.features)[known]), part.labels[known]
    deltas = [delta for row in part.deltas for delta in row if delta is not None]
    found = {
        "validation_loss": log_loss(estimated, happened),
        "auroc": auroc(estimated.tolist(), (happened > 0).tolist()),
        "spearman": spearman(estimated.tolist(), deltas),
    }
    return {name: None if value is None else round(value, 4) for name, value in found.items()}
