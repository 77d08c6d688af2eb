"""Show the progress of a training: a bar on standard error, and figures from time to time."""

# pyright: reportUnknownMemberType=false
# (transformers and torch are typed in part)

import math
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arbiter.protocols.errors import BackendError

_REPORTS = 10  # per training

Evaluate = Callable[[], Mapping[str, float | None]]
"""Returns the figures of the held-out data."""


class Interruption:
    """Records in ``requested`` whether SIGINT or SIGTERM came. Within the block, the first one is only recorded."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only the main thread may set handlers
            for kind in (signal.SIGINT, signal.SIGTERM):
                self._before[kind] = signal.signal(kind, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)
        self._before.clear()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        self.__exit__()  # a second signal has its usual effect


class TrainingProgress(TrainerCallback):
    """Shows a bar on a terminal, logs loss and figures, and ends the training early on an interruption."""

    def __init__(
        self,
        running_loss: Callable[[], float],
        evaluate: Evaluate,
        interruption: Interruption,
        log: Any,  # noqa: ANN401 - structlog's loggers have no class
    ) -> None:
        self._running_loss = running_loss
        self._evaluate = evaluate
        self._interruption = interruption
        self._log = log
        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn()
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("training", total=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ANN401
        if state.is_world_process_zero:
            self._bar.start()
            self._bar.update(self._task, total=state.max_steps, completed=state.global_step)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,  # noqa: ANN401
        **_: Any,  # noqa: ANN401
    ) -> None:
        self._bar.update(self._task, completed=state.global_step)
        done, last = state.global_step, state.global_step == state.max_steps
        if done % max(1, state.max_steps // _REPORTS) == 0 or last:
            self._report(state, model)
        if self._interruption.requested and not last:
            control.should_save = control.should_training_stop = True

    def _report(self, state: TrainerState, model: Any) -> None:  # noqa: ANN401
        loss = self._running_loss()
        self._check(state, loss)
        if not state.is_world_process_zero:
            return
        model.eval()
        with torch.inference_mode():
            figures = self._evaluate()
        model.train()
        self._check(state, *(value for value in figures.values() if value is not None))
        self._log.info("training", update=state.global_step, of=state.max_steps, loss=round(loss, 4), **figures)

    def _check(self, state: TrainerState, *values: float) -> None:
        if not all(map(math.isfinite, values)):
            raise BackendError(
                f"after {state.global_step} updates the loss or a figure is not finite: lower --learning-rate, or use "
                "--precision float32"
            )
