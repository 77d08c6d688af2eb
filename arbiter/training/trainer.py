"""The project's trainer, over ``transformers.Trainer``.

It uses AdamW, linear warm-up and decay, clipped gradients, mixed precision and gradient accumulation. It runs in one
process, or in several that ``accelerate launch`` starts. A training with a folder saves checkpoints there, also when it
is interrupted.
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
from safetensors import SafetensorError
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from arbiter.protocols.errors import BackendError, ConfigError, RunError
from arbiter.training.batches import Batch, BatchStream, Labelled, collated
from arbiter.training.complete_files import WRITING, newest_state, publish_state
from arbiter.training.metadata import Precision, is_first_process
from arbiter.training.silence import quiet
from arbiter.training.training_progress import Evaluate, Interruption, TrainingProgress

Loss = Callable[[Any, Batch], torch.Tensor]
"""Returns the mean loss of a batch, with gradients. The model may be wrapped for several devices."""

Begin = Callable[[int], Iterator[list[Labelled]]]
"""Starts an endless stream of micro-batches of the given number of rows. It is the same each time."""

_MICRO_BATCH = {"cpu": 32, "cuda": 16}

log = structlog.get_logger("arbiter.training")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the optimisation.

    - ``updates``: the number of optimiser steps, of ``batch`` rows each.
    - ``micro_batch``: the rows per device and forward pass (None: what usually fits).
    - ``learning_rate``: the peak, reached after ``warmup``, from which it falls to 0.
    - ``warmup``: a share of ``updates``, from 0 to 1.
    - ``precision``: that of the computation. The trained weights keep their own.
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
    """Train ``model`` in place. Afterwards it is in evaluation mode.

    ``evaluate`` is called ten times during training and its figures are logged, only by the first of several processes.
    With ``checkpoints``, the state is saved in that folder ten times. Ctrl-C then waits for the current update, saves
    its state and raises ``KeyboardInterrupt``. ``resume`` continues from the newest complete state, or from the start
    if there is none, and reaches the same weights. A process killed while it saves a state leaves the older one.

    Raises ``ConfigError`` if a setting does not fit the machine, ``BackendError`` if memory does not suffice or the
    loss is not finite, ``RunError`` if a checkpoint cannot be written or read.
    """
    micro, accumulated = split_batch(settings)
    stream = BatchStream(lambda: begin(micro), settings.updates * accumulated * devices())
    last = _last_state(checkpoints, resume)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    with ExitStack() as opened:
        opened.enter_context(quiet())
        folder = checkpoints or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="arbiter-")))
        if is_first_process():
            shutil.rmtree(folder / WRITING, ignore_errors=True)  # of a process that was killed
        interruption = opened.enter_context(Interruption() if checkpoints else nullcontext(Interruption()))
        trainer = _Trainer(
            model=model,
            args=_arguments(settings, folder / WRITING, accumulated, keep=checkpoints is not None),
            train_dataset=stream,
            data_collator=lambda found: collated(list(itertools.chain.from_iterable(found)), pad),
        )
        trainer.loss, trainer.states = loss, folder
        trainer.remove_callback(PrinterCallback)
        watch = opened.enter_context(TrainingProgress(trainer.running_loss, evaluate, interruption, log))
        trainer.add_callback(watch)
        _train(trainer, last, settings)
    model.eval()
    if interruption.requested:
        raise KeyboardInterrupt


def forget_checkpoints(folder: Path) -> None:
    """Delete the saved states of a finished training."""
    shutil.rmtree(folder, ignore_errors=True)


def devices() -> int:
    """Return how many devices train together: the processes launched together, or all GPUs of a single process."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    return launched if launched > 1 else max(1, torch.cuda.device_count())


def split_batch(settings: Settings) -> tuple[int, int]:
    """Return the rows of a micro-batch on one device, and the number of micro-batches per update.

    Raises ``ConfigError`` if there are fewer rows than devices.
    """
    if settings.batch < devices():
        raise ConfigError(f"a batch of {settings.batch} has fewer rows than the {devices()} devices: raise --batch")
    share = settings.batch / devices()
    usual = _MICRO_BATCH["cuda" if torch.cuda.is_available() else "cpu"]
    micro = min(settings.micro_batch or usual, math.ceil(share))
    accumulated = math.ceil(share / micro)
    return math.ceil(share / accumulated), accumulated


def precision_of(settings: Settings) -> str:
    """Return the precision of the computation on this machine.

    Raises ``ConfigError`` if the machine does not support the requested one.
    """
    cuda = torch.cuda.is_available()
    if settings.precision == "auto":
        return ("bfloat16" if torch.cuda.is_bf16_supported() else "float16") if cuda else "float32"
    if settings.precision == "float16" and not cuda:
        raise ConfigError("--precision float16 needs a GPU: use bfloat16 or float32")
    return settings.precision


class _Trainer(Trainer):
    """A trainer with a custom loss. It does not count floating-point operations, which nothing reads."""

    loss: Loss
    states: Path
    _sum: torch.Tensor | float = 0.0
    _count: int = 0
    loss_is_scaled_for_ga = False

    def compute_loss(self, model: Any, inputs: Batch, *_: Any, **__: Any) -> torch.Tensor:  # noqa: ANN401
        value = self.loss(model, inputs)
        self._sum, self._count = self._sum + value.detach(), self._count + 1
        return value

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ANN401
        return 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ANN401
        """Write a state outside the folder of complete states, and move it there when it is complete."""
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # each process writes a part
            if self.args.should_save:
                written = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
                publish_state(written, self.states)
        except (OSError, SafetensorError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise RunError(f"cannot write a checkpoint of the training into {self.states}: {error}") from error

    def running_loss(self) -> float:
        """Return the mean loss since the last call."""
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
        logging_strategy="no",
        disable_tqdm=True,
        report_to=[],
        seed=settings.seed,
    )


def _last_state(folder: Path | None, resume: bool) -> str | None:
    if not resume or folder is None:
        return None
    last = newest_state(folder)
    if is_first_process():
        log.info(
            "resuming", after=last.name if last else "nothing: no state was saved, so it starts from the beginning"
        )
    return None if last is None else str(last)


def _train(trainer: Trainer, last: str | None, settings: Settings) -> None:
    try:
        trainer.train(resume_from_checkpoint=last)
    except torch.OutOfMemoryError as error:
        micro, _ = split_batch(settings)
        raise BackendError(
            f"the device's memory does not suffice for micro-batches of {micro} rows: lower --micro-batch, or set "
            "--gradient-checkpointing, --lora or a shorter --max-length"
        ) from error
    except OSError as error:
        raise RunError(f"cannot write or read a checkpoint of the training: {error}") from error
