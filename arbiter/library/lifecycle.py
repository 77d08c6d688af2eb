"""What an Arbiter opens: the configured models and the log."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from anyio.abc import TaskGroup

from arbiter.actors.factories import ActorFactories
from arbiter.actors.ring import Ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.loop_calls import running_soon
from arbiter.backends.opening import AnswerForm, form_of, open_tables
from arbiter.config.config import Config
from arbiter.config.model_tables import RouterTable
from arbiter.config.run_tables import RunType
from arbiter.library.admission_queue import AdmissionQueue
from arbiter.log.identity import identity
from arbiter.log.reader import LOG
from arbiter.log.recorder import Recorder, Watch
from arbiter.log.sessions import open_journal
from arbiter.protocols.errors import ClosedError, ConfigError
from arbiter.runs.finding import refuse_last
from arbiter.runs.folder import about_run, record_end, versions
from arbiter.runs.model_opening import with_step_ends


class Opened:
    """The state of an open Arbiter."""

    def __init__(self, models: Models, form: AnswerForm, ring: Ring, tasks: TaskGroup, problems: int) -> None:
        self.models = models
        self.form = form
        self.ring = ring
        self.admission = AdmissionQueue(problems)
        self.is_closed = False
        self.soon = running_soon()
        self._tasks = tasks

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start ``work`` as a task of the Arbiter. Raises ``ClosedError`` if the Arbiter is closed."""
        if self.is_closed:
            raise ClosedError("the Arbiter is closed and takes no more calls: open a new one")
        self._tasks.start_soon(work)


@asynccontextmanager
async def open_given(
    config: Config, given: Models, factories: ActorFactories, run_types: Sequence[RunType] | None
) -> AsyncGenerator[tuple[Models, AnswerForm]]:
    """Open the configured models that ``given`` does not replace. Yield all models, and the form of their answers.

    Only the models that ``run_types`` call are opened; None opens all. Raises ``ConfigError`` and ``BackendError`` as
    ``open_tables``.
    """
    present = {name for name, handle in (("draft", given.draft), ("target", given.target)) if handle}
    present |= {*given.scorers, *(f"targets.{name}" for name in given.targets), *factories.replaced_models}
    named = config.models.configured() if run_types is None else _called(config, run_types, present)
    if factories.escalator:
        present |= {name for name in named if name.startswith("targets.")}
    tables = {name: table for name, table in named.items() if name not in present}
    async with open_tables(tables, config.cpu_threads, config.adaptive, config.separator) as opened:
        models = Models(
            given.draft or opened.draft,
            given.target or next(iter(given.targets.values()), None) or opened.target,
            {**opened.scorers, **given.scorers},
            {**opened.targets, **given.targets},
        )
        yield with_step_ends(models, config), await form_of(tables)


@asynccontextmanager
async def open_log(config: Config, out: Path | None, watch: Watch | None) -> AsyncGenerator[Recorder]:
    """Open the log in the folder ``out``, and write the configuration and the versions next to it.

    ``watch`` is called with each event. Raises ``RunError`` if ``out`` cannot be written, or is
    the name of the newest run.
    """
    if out is not None:
        refuse_last(out)
    what, log = identity(config, ()), config.log
    path = None if out is None else out / LOG
    prepare = None if out is None else partial(about_run, out, config)
    opening = open_journal(path, what, versions(), log.record, log.sync, watch=watch, goes_on=False, prepare=prepare)
    async with opening as journal:
        yield journal
        await record_end(journal, interrupted=False)


def _called(config: Config, run_types: Sequence[RunType], present: set[str]) -> dict[str, RouterTable]:
    """Return the model tables that ``run_types`` call.

    Raises ``ConfigError`` if one is missing and its model is not in ``present``.
    """
    called: dict[str, RouterTable] = {}
    for run_type in run_types:
        for name, table in _tables(config, run_type).items():
            if table is not None:
                called[name] = table
            elif name not in present:
                raise ConfigError(
                    f"the run type {run_type!r} calls the {name} model, but none is configured: "
                    f"add a table [models.{name}], or leave {run_type!r} out of run_types"
                )
    return called


def _tables(config: Config, run_type: RunType) -> dict[str, RouterTable | None]:
    return config.with_run_type(run_type, "run_types", drop_budget=True).called_tables()
