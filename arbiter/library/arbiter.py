"""The Python API: ``Arbiter`` solves questions for any number of concurrent callers."""

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
from arbiter.actors.step_pieces import Listen
from arbiter.actors.supervision import services
from arbiter.config.config import Config, load_config
from arbiter.config.model_tables import ModelTables
from arbiter.config.run_tables import RunType
from arbiter.data.known_sets import grader_of
from arbiter.library.batch_map import solve_each, taking
from arbiter.library.divided_solutions import with_reasoning
from arbiter.library.found_answers import with_answer
from arbiter.library.lifecycle import Opened, open_given, open_log
from arbiter.library.questions import Overrides, Question, TaskFactory
from arbiter.library.streams import Done, Pieces, Solutions, Steps, Watch
from arbiter.protocols.errors import ArbiterError, ClosedError, ConfigError
from arbiter.protocols.events import Event
from arbiter.protocols.messages import Task
from arbiter.protocols.model_traits import ThoughtOpening
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Journal
from arbiter.protocols.records import Solution
from arbiter.runs.limit_notes import limit_notes

Leaving = Literal["drain", "cancel"]
Hook = Callable[[Event], None]
_RUN_TYPES: tuple[RunType, ...] = get_args(RunType)

log = logging.getLogger("arbiter.library")


class Arbiter:
    """Solves questions with the models of a configuration. An asynchronous context manager.

    Example::

        async with Arbiter.from_config("pocket") as arbiter:
            solution = await arbiter.solve("Compute (12+30)*7.")
            print(solution.answer)

    All calls share one ring, its models and their limits. At most ``limits.problems`` problems are in the ring; the
    others wait in order of arrival. Cancelling a call immediately cancels its problem, on the servers as well, and no
    other problem.

    - ``config`` is the configuration; None for one without models.
    - ``models`` are your own models, which replace configured ones.
    - ``factories`` make replacement actors (``docs/how-to/library.md``).
    - ``run_types`` are the run types that calls may choose, besides that of the configuration. Only the models of these
      run types are opened. None opens all configured models.
    - ``out`` is a folder for the log of all calls. It can be read, shown and replayed like the folder of a run.
    - ``hooks`` are called on the event loop with each event. They must not block; their errors are logged.
    - ``leaving`` says what happens to running calls at the end of the block. ``drain`` waits for them; ``cancel`` ends
      them with ``ClosedError``. If an error leaves the block, they are always cancelled.

    Opening raises:

    - ``ArbiterError`` if it is already open,
    - ``ConfigError`` if a table of the configuration, an extra or an API key is missing,
    - ``BackendError`` if a model cannot be loaded or a server cannot be reached,
    - ``RunError`` if ``out`` cannot be written,
    - what ``on_start`` of a replacement actor raises.

    It must be left in the task that entered it; otherwise leaving raises ``ArbiterError``.
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
        self._closing: tuple[Callable[[], object], ...] = ()
        self._leaving: Leaving = leaving
        self._tasks = TaskFactory(self.config)
        self._grader = grader_of(self.config)
        self._opened: Opened | None = None
        self._task = 0
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
        """Make an Arbiter from a configuration: a ``Config``, the path of a file, or the name of a built-in one.

        The other arguments are as in ``Arbiter``. Raises ``ConfigError`` if the configuration is wrong.
        """
        read = config if isinstance(config, Config) else load_config(str(config))
        return cls(read, models=models, factories=factories, run_types=run_types, out=out, hooks=hooks, leaving=leaving)

    async def __aenter__(self) -> Self:
        if self.is_open:
            raise ArbiterError("the Arbiter is already open: share this one, or make another one")
        async with AsyncExitStack() as stack:
            models, form = await stack.enter_async_context(
                open_given(self.config, self._given, self._factories, self._run_types)
            )
            for note in limit_notes(self.config, models):
                log.warning(note)
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
                    block=config.block,
                )
            )
            self._opened = Opened(models, form, ring, tasks, config.limits.problems)
            self._task = anyio.get_current_task().id
            stack.push_async_exit(self._leave)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._opened is not None and anyio.get_current_task().id != self._task:
            await self.close(0.0)
            raise ArbiterError(
                "the Arbiter was entered in one task and is left in another: its calls are cancelled, but its models "
                "and its log are not closed. Enter and leave it in the same task, or use BlockingArbiter"
            ) from error
        return await self._stack.__aexit__(kind, error, trace)

    async def solve(self, question: Question, **overrides: Unpack[Overrides]) -> Solution:
        """Solve one question and return its solution.

        If the problem fails, ``finish_reason`` of the solution is ``failed``, and ``error`` says why. Example::

            solution = await arbiter.solve("Compute (12+30)*7.", run_type="router", threshold=0.4)

        Raises:

        - ``DataError`` if the question is empty or not valid,
        - ``ConfigError`` if an override is wrong or needs a model that is missing,
        - ``ProblemError`` if a problem with the same id is being solved,
        - ``ClosedError`` if the Arbiter is closed, or is closed before the problem is solved.
        """
        return await self._run(question, self.task(question, **overrides))

    def stream(self, question: Question, **overrides: Unpack[Overrides]) -> Steps:
        """Solve one question and iterate over its steps, each as soon as it is kept::

            async for step in arbiter.stream("Compute (12+30)*7."):
                print(step.kept.author, step.kept.text)

        Leaving the loop cancels the problem and its requests, unless a variable keeps the iterator (see ``Steps``).

        The call itself raises ``DataError``, ``ConfigError`` and ``ClosedError``. The iteration raises ``ProblemError``
        and ``ClosedError``, as ``solve``.
        """
        return self._steps(question, self.task(question, **overrides))

    def stream_pieces(self, question: Question, **overrides: Unpack[Overrides]) -> Pieces:
        """Solve one question and iterate over its steps as with ``stream``, and over their texts as they are written::

            async for piece in arbiter.stream_pieces("Compute (12+30)*7.", run_type="target"):
                print(piece.text if isinstance(piece, StepPiece) else "", end="")

        A step has pieces only if nothing can reject it: a target replaces a rejected draft, or one model alone answers.
        Problems with tools, a schema, ``top_logprobs`` or a deadline have none, nor have models that cannot pass on
        their text.

        Raises as ``stream``.
        """
        return self._pieces(question, self.task(question, **overrides))

    def steps(self, task: Task) -> Steps:
        """Solve a task made by ``task``, and iterate over its steps as with ``stream``."""
        return self._steps(None, task)

    def pieces(self, task: Task) -> Pieces:
        """Solve a task made by ``task``, and iterate over its steps and their pieces as with ``stream_pieces``."""
        return self._pieces(None, task)

    def map(
        self,
        questions: Iterable[Question] | AsyncIterable[Question],
        *,
        concurrency: int | None = None,
        **overrides: Unpack[Overrides],
    ) -> Solutions:
        """Solve many questions and iterate over their solutions, in the order in which they end::

            async for solution in arbiter.map(["Compute 12+30.", "Compute 99-12."], concurrency=256):
                print(solution.question, solution.text)

        At most ``concurrency`` questions are solved concurrently; None means ``limits.problems``. A question is only
        taken from ``questions`` when it can start. If the caller takes solutions slowly, fewer questions are started.
        ``solution.problem`` is the id of the ``Problem``, or a new one for other questions.

        The call itself raises ``ConfigError`` and ``ClosedError``, and ``TypeError`` if ``questions`` is not iterable.
        The iteration raises the errors of ``solve`` and those of ``questions``. The first error cancels all
        questions in progress, except a ``ClosedError``, after which they may still end.
        """
        opened, most = self._open(), self.config.limits.problems if concurrency is None else concurrency
        if most < 1:
            raise ConfigError(f"concurrency must be 1 or more, but it is {most}")
        self._check(overrides.get("run_type"), self._tasks.plan(overrides).policy)
        take = taking(questions)

        async def solve(done: Done) -> None:
            await solve_each(take, lambda question: self.solve(question, **overrides), done, most)

        return Solutions(opened.begin, opened.soon, solve)

    def task(self, question: Question, **overrides: Unpack[Overrides]) -> Task:
        """Return the task that ``solve`` runs. Its id is that of the ``Problem``, or a new one for other questions.

        Raises ``DataError`` and ``ConfigError`` as ``solve``, and ``ClosedError`` unless the Arbiter is open.
        """
        task = self._tasks.make(question, overrides)
        self._check(overrides.get("run_type"), task.policy)
        self._open().models.require_answer(task)
        return task

    def check(self, task: Task) -> None:
        """Check that the models can solve a task made by ``task`` whose policy was then replaced.

        Raises ``ConfigError`` if not, and ``ClosedError`` unless the Arbiter is open.
        """
        self._check(None, task.policy)
        self._open().models.require_answer(task)

    def thought_opening(self, task: Task) -> ThoughtOpening | None:
        """Return what opens the thought with which an answer to ``task`` may begin; None if no model writes thoughts.

        It is ``prompt`` or ``answer``. Raises ``ClosedError`` if the Arbiter is not open.
        """
        return self._open().models.thought_opening(task)

    async def run(self, task: Task, watch: Watch | None = None) -> Solution:
        """Solve a task made by ``task``. ``watch`` is called with each kept step and must not block.

        Raises ``ProblemError`` and ``ClosedError`` as ``solve``.
        """
        return await self._run(None, task, watch)

    async def close(self, within: float | None = None) -> None:
        """Refuse further calls, and wait up to ``within`` seconds for running ones; None waits until they end.

        Calls that are still running then end with ``ClosedError``.
        """
        opened = self._opened
        if opened is None:
            return
        opened.is_closed = True
        for hook in self._closing:
            hook()
        try:
            with anyio.move_on_after(within):
                await opened.admission.all_gone()
        finally:
            opened.ring.close()

    def watch(self, hook: Hook) -> None:
        """Add a hook. Raises ``ConfigError`` if the Arbiter has already been opened."""
        if self._opened is not None:
            raise ConfigError("add hooks before the Arbiter is opened: otherwise they miss events")
        self._hooks = (*self._hooks, hook)

    def on_close(self, hook: Callable[[], object]) -> None:
        """Call ``hook`` when the Arbiter begins to close, before it waits for running calls. It must not raise."""
        self._closing = (*self._closing, hook)

    @property
    def run_types(self) -> tuple[RunType, ...]:
        """The run types that a call may choose: those whose models are open, and that the configuration allows.

        Raises ``ClosedError`` if the Arbiter is not open.
        """
        return tuple(run_type for run_type in _RUN_TYPES if self.why_unavailable(run_type) is None)

    def why_unavailable(self, run_type: RunType) -> str | None:
        """Return why a call may not choose ``run_type``; None if it may.

        Raises ``ClosedError`` if the Arbiter is not open.
        """
        try:
            self._check(run_type, self._tasks.rule(run_type, None))
        except ConfigError as error:
            return str(error)
        return None

    @property
    def running(self) -> int:
        """The number of problems in the ring."""
        return 0 if self._opened is None else self._opened.admission.inside

    @property
    def waiting(self) -> int:
        """The number of problems that wait to enter the ring."""
        return 0 if self._opened is None else self._opened.admission.waiting

    @property
    def occupancy(self) -> Mapping[str, Occupancy]:
        """The slots of each model, by its configuration key after ``models.``; empty before the Arbiter is opened."""
        return {} if self._opened is None else self._opened.ring.occupancy

    @property
    def is_open(self) -> bool:
        """Whether the Arbiter accepts calls."""
        return self._opened is not None and not self._opened.is_closed

    def _open(self) -> Opened:
        if self._opened is None:
            raise ClosedError("the Arbiter is not open: use it in `async with Arbiter.from_config(…) as arbiter:`")
        if self._opened.is_closed:
            raise ClosedError("the Arbiter is closed and takes no more calls: open a new one")
        return self._opened

    async def _run(
        self, question: Question | None, task: Task, watch: Watch | None = None, listen: Listen | None = None
    ) -> Solution:
        opened = self._open()
        async with opened.admission.entered():
            solution = await opened.ring.solve(task, watch, listen)
        opening = opened.models.thought_opening(task)
        form = opened.form._replace(in_thought=opening == "prompt")
        return with_answer(with_reasoning(solution, opening), question, self._grader, form)

    def _steps(self, question: Question | None, task: Task) -> Steps:
        opened = self._open()
        return Steps(opened.begin, opened.soon, partial(self._run, question, task))

    def _pieces(self, question: Question | None, task: Task) -> Pieces:
        opened = self._open()
        return Pieces(opened.begin, opened.soon, lambda put: self._run(question, task, put, put))

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(None if self._leaving == "drain" and error is None else 0.0)

    def _check(self, run_type: RunType | None, policy: Policy) -> None:
        """Raises ``ConfigError`` if calls may not choose ``run_type``, or if ``policy`` calls a missing model."""
        if run_type and self._run_types is not None and run_type not in self._run_types:
            raise ConfigError(f"the run type {run_type!r} is not one of this Arbiter's: {', '.join(self._run_types)}")
        self._open().models.require(policy, self.config.audit, self._factories.replaced_models)

    def _journal(self) -> AbstractAsyncContextManager[Journal]:
        if self._out is None and not self._hooks:
            return nullcontext(NoJournal())
        watch = self._call_hooks if self._hooks else None
        return open_log(self.config, self._out, watch)

    def _call_hooks(self, event: Event) -> None:
        for hook in self._hooks:
            try:
                hook(event)
            except Exception:  # a hook only observes: its error must not fail a problem
                log.exception("a hook failed", extra={"hook": repr(hook), "event_id": event.id})
