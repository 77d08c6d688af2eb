"""The Python API: one object that solves what it is asked, for any number of callers at once."""

import logging
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, Unpack, get_args

import anyio

from arbiter.actors.factories import ActorFactories
from arbiter.actors.journal import NoJournal
from arbiter.actors.ring import open_ring
from arbiter.actors.ring_setup import Models
from arbiter.actors.slots import Occupancy
from arbiter.actors.supervision import services
from arbiter.config.config import Config, load_config
from arbiter.config.model_tables import ModelTables
from arbiter.config.run_tables import RunType
from arbiter.library.batch_map import solve_each, taking
from arbiter.library.lifecycle import Opened, open_given, open_log
from arbiter.library.questions import Overrides, Question, TaskFactory
from arbiter.library.streams import Done, Solutions, Steps, Watch
from arbiter.protocols.errors import ArbiterError, ClosedError, ConfigError
from arbiter.protocols.events import Event
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Journal, Policy
from arbiter.protocols.records import Solution

Leaving = Literal["drain", "cancel"]
Hook = Callable[[Event], None]
_RUN_TYPES: tuple[RunType, ...] = get_args(RunType)

log = logging.getLogger("arbiter.library")


class Arbiter:
    """Solves questions with the models of a configuration; an asynchronous context manager.

    All calls share one ring, its models and their limits: at most ``limits.problems`` problems are in it at once, the
    others wait in the order in which they came. Cancelling a call cancels its problem at once, on the servers too, and
    touches no other.

    ``models`` stand in the place of configured ones, and ``factories`` make replacement actors (``docs/how-to/library.md``).
    ``run_types`` are those that calls may choose: only their models are opened; else all that are configured.
    ``out`` is a folder for the log of all calls, to be read, shown and replayed as that of a run; ``hooks`` are called
    on the event loop with each event as it happens, must not block, and what they raise is logged.
    On leaving the block, calls that are still going on are waited for (``drain``), or end with ``ClosedError``
    (``cancel``); it is always ``cancel`` if the block is left by an error.

    Opening raises ``ConfigError`` if a table, an extra or a key is missing, ``BackendError`` if a model cannot be
    loaded, or a server not be reached, and ``RunError`` if ``out`` cannot be written.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        models: Models | None = None,
        factories: ActorFactories | None = None,
        run_types: Sequence[RunType] | None = None,
        out: str | Path | None = None,
        hooks: Sequence[Hook] = (),
        leaving: Leaving = "drain",
    ) -> None:
        self.config = config or Config(models=ModelTables())
        self._given = models or Models()
        self._factories = factories or ActorFactories()
        self._run_types = None if run_types is None else (self.config.run_type, *run_types)
        self._out = None if out is None else Path(out)
        self._hooks = tuple(hooks)
        self._leaving: Leaving = leaving
        self._asked = TaskFactory(self.config)
        self._opened: Opened | None = None
        self._stack = AsyncExitStack()

    @classmethod
    def from_config(
        cls,
        config: str | Path | Config,
        *,
        models: Models | None = None,
        factories: ActorFactories | None = None,
        run_types: Sequence[RunType] | None = None,
        out: str | Path | None = None,
        hooks: Sequence[Hook] = (),
        leaving: Leaving = "drain",
    ) -> Self:
        """An Arbiter with the configuration of a file, or the built-in one of that name. Raises ``ConfigError``."""
        read = config if isinstance(config, Config) else load_config(str(config))
        return cls(read, models=models, factories=factories, run_types=run_types, out=out, hooks=hooks, leaving=leaving)

    async def __aenter__(self) -> Self:
        if self.is_open:
            raise ArbiterError("the Arbiter is open already: give it to who needs it, or make another one")
        async with AsyncExitStack() as stack:
            models = await stack.enter_async_context(
                open_given(self.config, self._given, self._factories, self._run_types)
            )
            journal = await stack.enter_async_context(self._journal())
            tasks = await stack.enter_async_context(services())
            config = self.config
            ring = await stack.enter_async_context(
                open_ring(
                    models,
                    journal=journal,
                    lookahead=config.depth,
                    verify=config.verify,
                    salvage=config.salvage,
                    factories=self._factories,
                )
            )
            self._opened = Opened(models, ring, tasks, config.limits.problems)
            stack.push_async_exit(self._leave)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    async def solve(self, question: Question, **overrides: Unpack[Overrides]) -> Solution:
        """Solve one question. What goes wrong with it is told in its solution (``finish`` is ``failed``).

        Raises ``DataError`` if there is no question, ``ConfigError`` if an override is wrong or asks for a model that
        is not there, ``ProblemError`` if a problem with the same id is being solved, ``ClosedError`` if the Arbiter is
        closed, or was before the problem was solved.
        """
        return await self.run(self.task(question, **overrides))

    def stream(self, question: Question, **overrides: Unpack[Overrides]) -> Steps:
        """The steps of one question, each as soon as it is final, with its author, scores and candidates::

            async for step in arbiter.stream("…"):
                print(step.kept.author, step.kept.text)

        Raises ``DataError`` and ``ConfigError`` at once, and the rest as ``solve`` while it is iterated.
        """
        return self.steps(self.task(question, **overrides))

    def steps(self, task: Task) -> Steps:
        """The steps of a task of ``task``, as ``stream`` gives them."""
        opened = self._open()
        return Steps(opened.begin, opened.soon, partial(self.run, task))

    def map(
        self,
        questions: Iterable[Question] | AsyncIterable[Question],
        *,
        concurrency: int | None = None,
        **overrides: Unpack[Overrides],
    ) -> Solutions:
        """The solutions of many questions, in the order in which they end.

        At most ``concurrency`` of them are on their way, as many as ``limits.problems`` if it is None; each is taken
        from ``questions`` when there is room for it. A solution tells its ``question``, and its ``problem`` is the id
        of a question that was given as a ``Problem``. Raises ``ConfigError`` at once, and while it is iterated the rest
        as ``solve``, and what ``questions`` raises: the first error cancels what is on its way.
        """
        opened, most = self._open(), self.config.limits.problems if concurrency is None else concurrency
        if most < 1:
            raise ConfigError(f"concurrency must be 1 or more, and it is {most}")
        self._check(overrides.get("run_type"), self._asked.plan(overrides).policy)
        take = taking(questions)

        async def solve(done: Done) -> None:
            await solve_each(take, lambda question: self.solve(question, **overrides), done, most)

        return Solutions(opened.begin, opened.soon, solve)

    def task(self, question: Question, **overrides: Unpack[Overrides]) -> Task:
        """The task that ``solve`` gives to the ring, with an id of its own. Raises ``DataError``, ``ConfigError``."""
        task = self._asked.make(question, overrides)
        self._check(overrides.get("run_type"), task.policy)
        return task

    async def run(self, task: Task, watch: Watch | None = None) -> Solution:
        """Solve a task of ``task``; ``watch`` is called with each step when it is final, and must not block.

        Raises ``ProblemError`` and ``ClosedError`` as ``solve``.
        """
        opened = self._open()
        async with opened.door.entered():
            return await opened.ring.solve(task, watch)

    async def close(self, within: float | None = None) -> None:
        """Take no more calls, and wait so many seconds for those that are going on, None for as long as they take.

        Those left then end with ``ClosedError``.
        """
        opened = self._opened
        if opened is None:
            return
        opened.is_closed = True
        try:
            with anyio.move_on_after(within):
                await opened.door.all_gone()
        finally:
            opened.ring.close()

    def watch(self, hook: Hook) -> None:
        """One more hook. Raises ``ConfigError`` if the Arbiter is open already."""
        if self._opened is not None:
            raise ConfigError("hooks are given before the Arbiter is opened: events may have passed already")
        self._hooks = (*self._hooks, hook)

    @property
    def run_types(self) -> tuple[RunType, ...]:
        """The run types that a call may choose: those whose models are there."""
        return tuple(run_type for run_type in _RUN_TYPES if self._can(run_type))

    @property
    def running(self) -> int:
        """Problems in the ring."""
        return 0 if self._opened is None else self._opened.door.inside

    @property
    def waiting(self) -> int:
        """Problems that wait for room in the ring."""
        return 0 if self._opened is None else self._opened.door.waiting

    @property
    def occupancy(self) -> Mapping[str, Occupancy]:
        """The places at each model, by its key behind ``models.``; none before it is opened."""
        return {} if self._opened is None else self._opened.ring.occupancy

    @property
    def is_open(self) -> bool:
        """Whether it takes calls."""
        return self._opened is not None and not self._opened.is_closed

    def _open(self) -> Opened:
        if self._opened is None:
            raise ClosedError("the Arbiter is not open: use it in `async with Arbiter.from_config(…) as arbiter:`")
        if self._opened.is_closed:
            raise ClosedError("the Arbiter is closed, and takes no more calls")
        return self._opened

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(None if self._leaving == "drain" and error is None else 0.0)

    def _can(self, run_type: RunType) -> bool:
        try:
            self._check(run_type, self._asked.rule(run_type, None))
        except ConfigError:
            return False
        return True

    def _check(self, run_type: RunType | None, policy: Policy) -> None:
        """Raises ``ConfigError`` if a call may not choose it, or a model that it calls is not there."""
        if run_type and self._run_types is not None and run_type not in self._run_types:
            raise ConfigError(f"the run type {run_type!r} is none of this Arbiter's: {', '.join(self._run_types)}")
        self._open().models.require(policy, self.config.audit, self._factories.replaced_models)

    def _journal(self) -> AbstractAsyncContextManager[Journal]:
        if self._out is None and not self._hooks:
            return nullcontext(NoJournal())
        watch = self._told if self._hooks else None
        return open_log(self.config, self._out, watch)

    def _told(self, event: Event) -> None:
        for hook in self._hooks:
            try:
                hook(event)
            except Exception:  # a hook only looks on: nobody's problem fails with it
                log.exception("a hook failed", extra={"hook": repr(hook), "event_id": event.id})
