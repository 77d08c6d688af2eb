"""Train a classifier: the steps from a base and its examples to a checkpoint on disk, common to router and PRM."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arbiter.protocols.errors import ConfigError, RunError
from arbiter.runs.file_replacement import replace_file
from arbiter.training.batches import Labelled, collated, epochs
from arbiter.training.checkpoint import CHECKPOINTS, claim, save
from arbiter.training.complete_files import WRITING
from arbiter.training.heads import Base
from arbiter.training.metadata import CheckpointMetadata, Precision, is_first_process, read_metadata
from arbiter.training.silence import quiet
from arbiter.training.trainer import Loss, Settings, fit, forget_checkpoints
from arbiter.training.training_progress import Evaluate

LONGEST = 4096  # tokens, if no length is set and the base's context is larger
_PLAN = "plan.json"
ROWS_AT_ONCE = 64  # per forward pass without gradients

log = structlog.get_logger("arbiter.training")


class ClassifierSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a training. ``docs/how-to/train-a-router.md`` explains each of them.

    ``prompt`` (with ``{question}``) and ``separator`` have the same meaning as in a configuration. ``max_length`` is in
    tokens (None: the base's context, at most 4096), ``batch`` in rows, ``warmup`` a share of the updates.
    """

    base: str
    prompt: str
    separator: str = "\n\n"
    epochs: float = 1.0
    batch: int = 64
    micro_batch: int | None = None
    learning_rate: float = 1e-5
    warmup: float = 0.05
    weight_decay: float = 0.01
    max_length: int | None = None
    seed: int = 0
    lora: int | None = None
    precision: Precision = "auto"
    gradient_checkpointing: bool = False


def check_settings(settings: ClassifierSettings) -> None:
    """Raise ``ConfigError`` that names an option whose value is out of range."""
    for name in ("epochs", "batch", "micro_batch", "learning_rate", "max_length", "lora"):
        value = cast("float | None", getattr(settings, name))
        if value is not None and not value > 0:
            raise ConfigError(f"--{name.replace('_', '-')} {value:g}: it must be above 0")
    if not 0 <= settings.warmup <= 1:
        raise ConfigError(f"--warmup {settings.warmup:g}: it must be a share of the updates, from 0 to 1")


def optimising(settings: ClassifierSettings, examples: int) -> Settings:
    """Return the trainer's settings for ``examples`` examples. A batch has at most that many."""
    batch = min(settings.batch, examples)
    return Settings(
        updates=max(1, math.ceil(settings.epochs * examples / batch)),
        batch=batch,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        micro_batch=settings.micro_batch,
        precision=settings.precision,
        gradient_checkpointing=settings.gradient_checkpointing,
        seed=settings.seed,
    )


def digest(rows: Sequence[msgspec.Struct]) -> str:
    """Return a digest of the data: 16 hexadecimal digits."""
    name = hashlib.blake2b(digest_size=8)
    for row in rows:
        name.update(msgspec.json.encode(row))
    return name.hexdigest()


class ClassifierTraining:
    """One training in the folder ``out``. Only the first of several processes writes.

    Raises ``ConfigError`` if ``out`` is not empty and ``resume`` is not set.
    """

    def __init__(self, out: Path, resume: bool) -> None:
        self._out = out
        self._resume = resume
        if is_first_process():
            claim(out, resume)

    def run(
        self,
        base: Base,
        examples: Sequence[Labelled],
        loss: Loss,
        settings: Settings,
        metadata: CheckpointMetadata,
        evaluate: Evaluate,
    ) -> PreTrainedModel:
        """Train the model of ``base`` in place and return it. Not to be called for a training that is ``finished``.

        If ``metadata.lora`` is set, low-rank adapters of that rank are trained and merged afterwards. Raises
        ``ConfigError`` if ``metadata`` differs from that of the training to resume, and as ``fit``.
        """
        self._record(metadata)
        adapted = _with_adapters(base.model, metadata.lora) if metadata.lora else base.model
        fit(
            adapted,
            lambda size: epochs(examples, size, settings.seed),
            loss,
            settings,
            evaluate,
            pad=int(base.model.config.pad_token_id),
            checkpoints=self._out / CHECKPOINTS,
            resume=self._resume,
        )
        if metadata.lora:
            cast("Any", adapted).merge_and_unload()
        return base.model.eval()

    def save(self, base: Base, metadata: CheckpointMetadata) -> CheckpointMetadata:
        """Write the model in the precision of its base, delete the states for resuming, and return ``metadata``."""
        if metadata.kind == "router" and int(cast("Any", base.model.config).num_labels) == 2:
            base.model.config.id2label = {0: "not better", 1: "better"}
            base.model.config.label2id = {"not better": 0, "better": 1}
        if is_first_process():
            save(base.model, base.tokenizer, metadata, base.stored_as, self._out)
            forget_checkpoints(self._out / CHECKPOINTS)
        return metadata

    def finished(self, metadata: CheckpointMetadata) -> CheckpointMetadata | None:
        """Return the metadata of the checkpoint in the folder if the training to resume has finished, else None.

        Raises ``ConfigError`` if ``metadata`` differs from that of the training to resume.
        """
        done = read_metadata(self._out) if self._resume else None
        if done is None:
            return None
        self._check_same(msgspec.structs.replace(done, temperature=(), figures={}), metadata)
        if is_first_process():
            log.info("the training has finished before", out=str(self._out))
            forget_checkpoints(self._out / CHECKPOINTS)
            forget_checkpoints(self._out / WRITING)
        return done

    def _record(self, metadata: CheckpointMetadata) -> None:
        """Refuse to resume a different training, and record this one."""
        if not is_first_process():
            return
        path = self._out / CHECKPOINTS / _PLAN
        try:
            if self._resume and path.is_file():
                self._check_same(msgspec.json.decode(path.read_bytes(), type=CheckpointMetadata), metadata)
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from error
        replace_file(path, msgspec.json.encode(metadata))

    def _check_same(self, before: CheckpointMetadata, metadata: CheckpointMetadata) -> None:
        for name in CheckpointMetadata.__struct_fields__:
            then, now = getattr(before, name), getattr(metadata, name)
            if then != now:
                raise ConfigError(f"--resume: {name} was {then!r} in {self._out}, but is {now!r} now")


@torch.inference_mode()
def logits_of(base: Base, rows: Sequence[Labelled]) -> Tensor:
    """Return the logits at the last token of each row: shape (rows, labels), on the CPU."""
    model: Any = base.model
    pad, order = int(model.config.pad_token_id), sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    found = torch.empty(len(rows), int(model.config.num_labels))
    for start in range(0, len(order), ROWS_AT_ONCE):
        chosen = order[start : start + ROWS_AT_ONCE]
        batch = collated([rows[index] for index in chosen], pad)
        read = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        found[chosen] = model(**read).logits.float().cpu()
    return found


def _with_adapters(model: PreTrainedModel, rank: int) -> PreTrainedModel:
    """Return ``model`` with low-rank adapters on all linear layers. Only the adapters and the head are trained."""
    from peft import LoraConfig, TaskType, get_peft_model  # seldom used, and slow to import

    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        modules_to_save=["score"],
        task_type=TaskType.SEQ_CLS,
    )
    with quiet():
        return cast("PreTrainedModel", get_peft_model(model, config))
