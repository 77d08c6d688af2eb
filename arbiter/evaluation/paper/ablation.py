"""The ablation of the paper: routers trained on the same rows with one change, evaluated on the same steps."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.checkpoints import checkpoint
from arbiter.evaluation.evaluate import evaluate
from arbiter.protocols.records import Record
from arbiter.runs.intervals import BootstrapEstimate

if TYPE_CHECKING:
    from arbiter.training.metadata import CheckpointMetadata

VARIANTS: Mapping[str, dict[str, Any]] = {
    "2 classes, annotated, downsampled": {},
    "4 classes": {"labels": "4-class"},
    "4 classes, ordinal": {"labels": "ordinal"},
    "10 classes": {"labels": "10-class"},
    "history not annotated": {"annotate": False},
    "classes weighted": {"balance": "weights"},
    "not balanced": {"balance": "none"},
}
"""The changes to the router's training settings, by row name."""

PAPER: Mapping[str, float] = {
    "2 classes, annotated, downsampled": 0.1508,
    "4 classes": 0.1417,
    "4 classes, ordinal": 0.1355,
    "10 classes": 0.1337,
    "history not annotated": 0.1305,
}
"""Spearman's ρ in the paper's first ablation. In its second one, downsampling has 0.1673 and no balancing 0.1587."""


_SAME = (
    "base",
    "prompt",
    "separator",
    "annotate",
    "labels",
    "margin",
    "balance",
    "epochs",
    "batch",
    "learning_rate",
    "warmup",
    "weight_decay",
    "seed",
)


class Ablated(Record, frozen=True):
    """A variant on the test split: ρ of ŷ and Δ, AUROC, and accuracy on steps with Δ ≤ 0 and Δ > 0 at ŷ = 0.5."""

    variant: str
    spearman: BootstrapEstimate
    auroc: BootstrapEstimate
    others: BootstrapEstimate | None
    improving: BootstrapEstimate | None


def ablate(
    rows: Sequence[TrainingRow],
    data: str,
    router: str,
    folder: Path,
    notice: Callable[[str], None],
    resamples: int,
    seed: int,
) -> list[Ablated]:
    """Train every variant of ``router``, a checkpoint, and evaluate it on the test split of ``rows``.

    Variants that ``folder`` already has are not trained again. Return no variants if the checkpoint has no
    ``arbiter.json`` with its training settings. Raises the errors of training.
    """
    metadata = _metadata(router)
    if metadata is None:
        notice(f"no ablation: {router} has no arbiter.json with its training settings")
        return []
    found: list[Ablated] = []
    for variant, changes in VARIANTS.items():
        out = folder / variant.replace(", ", "-").replace(" ", "-")
        if not (out / "arbiter.json").exists():
            notice(f"ablation: training the router variant '{variant}'")
            _train(metadata, rows, out, changes)
        figures = evaluate(rows, data, "test", checkpoint(str(out)), resamples, seed).targets[0]
        scores = figures.of("router")
        if scores is not None:
            found.append(
                Ablated(variant, scores.spearman, scores.auroc, scores.accuracy_others, scores.accuracy_improving)
            )
    return found


def _metadata(router: str) -> "CheckpointMetadata | None":
    from arbiter.training.inference import folder_of
    from arbiter.training.metadata import read_metadata

    return read_metadata(folder_of(router))


def _train(metadata: "CheckpointMetadata", rows: Sequence[TrainingRow], out: Path, changes: Mapping[str, Any]) -> None:
    from arbiter.training.router_training import RouterSettings, train_router

    same: dict[str, Any] = {name: getattr(metadata, name) for name in _SAME}
    if changes.get("balance", metadata.balance) != metadata.balance:  # the same number of updates
        train_rows = sum(row.split == "train" for row in rows)
        same["epochs"] = metadata.updates * metadata.batch / train_rows
    train_router(RouterSettings(**{**same, **changes}), rows, out, resume=out.exists())
