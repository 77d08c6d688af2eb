"""The one trainer of the project, over ``transformers.Trainer``.

AdamW, linear warm-up and decay, clipped gradients, mixed precision and gradient accumulation; one process, or several
that ``accelerate launch`` starts. A training with a folder leaves checkpoints there, also when it is interrupted.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import itertools
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import structlog
import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from arbiter.protocols.errors import BackendError, ConfigError, RunError
from arbiter.training.batches import Batch, BatchStream, Labelled, collated
from arbiter.training.metadata import Precision
from arbiter.training.silence import quiet
from arbiter.training.training_progress import Evaluate, Interruption, TrainingProgress

Loss = Callable[[Any, Batch], torch.Tensor]
"""The mean loss of a batch, with the batch's gradients; the model may be wrapped for several devices."""

Begin = Callable[[int], Iterator[list[Labelled]]]
"""An endless stream of micro-batches of so many rows, the same ones each time it is begun."""

_MICRO_BATCH = {"cpu": 32, "cuda": 16}

log = structlog.get_logger("arbiter.training")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how fast to train.

    ``updates`` optimiser steps of ``batch`` rows each, of which each device takes ``micro_batch`` at once (None: what
    usually fits). ``learning_rate`` is the peak, reached after ``warmup`` (a share of ``updates``, 0 to 1), from which
    it falls to 0. ``precision`` is that of the computation; the weights that are learned stay in their own.
    """

    updates: int
    batch: int
    learning_rate: float
    warmup: float = 0.05
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    micro_batch: int | None = None
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    seed: int = 0


def fit(
    model: PreTrainedModel,
    begin: Begin,
    loss: Loss,
    settings: Settings,
    evaluate: Evaluate,
    *,
    pad: int,
    checkpoints: Path | None = None,
    resume: bool = False,
) -> None:
    """Train ``model`` in place; it is in evaluation mode afterwards.

    ``evaluate`` is asked ten times on the way, and its figures are logged, by the first of several processes alone.
    With ``checkpoints``, ten times on the way the state is kept in that folder, and Ctrl-C waits for the update under
    way, keeps its state, and then raises ``KeyboardInterrupt``. ``resume`` goes on from the last such state, and comes
    to the same weights.

    Raises ``ConfigError`` if a setting does not fit the machine, ``BackendError`` if its memory is not enough or the
    loss is no number any more, ``RunError`` if a checkpoint cannot be written or read.
    """
    micro, accumulated = split_batch(settings)
    stream = BatchStream(lambda: begin(micro), settings.updates * accumulated * devices())
    last = _last_checkpoint(checkpoints, resume)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    with ExitStack() as opened:
        opened.enter_context(quiet())
        folder = checkpoints or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="arbiter-")))
        interruption = opened.enter_context(Interruption() if checkpoints else nullcontext(Interruption()))
        trainer = _Trainer(
            model=model,
            args=_arguments(settings, folder, accumulated, keep=checkpoints is not None),
            train_dataset=stream,
            data_collator=lambda found: collated(list(itertools.chain.from_iterable(found)), pad),
        )
        trainer.loss = loss
        trainer.remove_callback(PrinterCallback)
        watch = opened.enter_context(TrainingProgress(trainer.running_loss, evaluate, interruption, log))
        trainer.add_callback(watch)
        _train(trainer, last, settings)
    model.eval()
    if interruption.asked:
        raise KeyboardInterrupt


def forget_checkpoints(folder: Path) -> None:
    """Delete the states of a training that has come to its end."""
    shutil.rmtree(folder, ignore_errors=True)


def devices() -> int:
    """How many devices train together: processes that were launched together, or all GPUs of a single one."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    return launched if launched > 1 else max(1, torch.cuda.device_count())


def split_batch(settings: Settings) -> tuple[int, int]:
    """How many rows a device takes at once, and how many such micro-batches it takes for an update.

    Raises ``ConfigError`` if there is not a row for each device.
    """
    if settings.batch < devices():
        raise ConfigError(f"a batch of {settings.batch} has not a row for each of {devices()} devices: raise --batch")
    share = settings.batch / devices()
    usual = _MICRO_BATCH["cuda" if torch.cuda.is_available() else "cpu"]
    micro = min(settings.micro_batch or usual, math.ceil(share))
    accumulated = math.ceil(share / micro)
    return math.ceil(share / accumulated), accumulated


def precision_of(settings: Settings) -> str:
    """The precision of the computation on this machine. Raises ``ConfigError`` if it has not the one asked for."""
    cuda = torch.cuda.is_available()
    if settings.precision == "auto":
        return ("bfloat16" if torch.cuda.is_bf16_supported() else "float16") if cuda else "float32"
    if settings.precision == "float16" and not cuda:
        raise ConfigError("--precision float16 needs a GPU: take bfloat16 or float32")
    return settings.precision


class _Trainer(Trainer):
    """A trainer with a loss of its own, that counts nothing which nobody reads."""

    loss: Loss
    _sum: torch.Tensor | float = 0.0
    _count: int = 0
    loss_is_scaled_for_ga = False

    def compute_loss(self, model: Any, inputs: Batch, *_: Any, **__: Any) -> torch.Tensor:  # noqa: ANN401
        value = self.loss(model, inputs)
        self._sum, self._count = self._sum + value.detach(), self._count + 1
        return value

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ANN401
        return 0

    def running_loss(self) -> float:
        """The mean loss since it was asked last."""
        mean = float(self._sum) / max(1, self._count)
        self._sum, self._count = 0.0, 0
        return mean


def _arguments(settings: Settings, folder: Path, accumulated: int, *, keep: bool) -> TrainingArguments:
    precision, cuda = precision_of(settings), torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,  # of the stream's micro-batches
        gradient_accumulation_steps=accumulated,
        max_steps=settings.updates,
        train_sampling_strategy="sequential",  # the stream has its order
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(settings.warmup * settings.updates),
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        max_grad_norm=settings.clip,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        save_strategy="steps" if keep else "no",
        save_steps=max(1, settings.updates // 10),
        save_total_limit=1,
        logging_strategy="no",
        disable_tqdm=True,
        report_to=[],
        seed=settings.seed,
    )


def _last_checkpoint(folder: Path | None, resume: bool) -> str | None:
    if not resume or folder is None:
        return None
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if last is None:
        raise RunError(f"there is no checkpoint in {folder}: leave --resume out")
    return last


def _train(trainer: Trainer, last: str | None, settings: Settings) -> None:
    try:
        trainer.train(resume_from_checkpoint=last)
    except torch.OutOfMemoryError as error:
        micro, _ = split_batch(settings)
        raise BackendError(
            f"the device has not the memory for {micro} rows at once: lower --micro-batch, or set "
            "--gradient-checkpointing, --lora or a shorter --max-length"
        ) from error
    except OSError as error:
        raise RunError(f"cannot write or read a checkpoint of the training: {error}") from error
