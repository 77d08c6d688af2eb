"""Requests to models. All of them go through this module, which limits, counts, times and records them."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

from arbiter.actors.clock import running_clock
from arbiter.actors.error_text import format_error
from arbiter.actors.gathering import Gathering
from arbiter.actors.limiter import ConcurrencyLimiter
from arbiter.actors.outcomes import generated, generated_block, scored, scored_block
from arbiter.actors.registry import ProblemRegistry
from arbiter.actors.step_pieces import Listen
from arbiter.protocols.errors import BackendError, RecordedError
from arbiter.protocols.events import (
    AnyPayload,
    CallCancelled,
    CallFailed,
    CallGenerated,
    CallRetried,
    CallScored,
    CallStarted,
    Entry,
)
from arbiter.protocols.ids import answer_id, call_id, retry_id
from arbiter.protocols.messages import Message, Task
from arbiter.protocols.model_traits import ScoresBlocks, WritesBlocks
from arbiter.protocols.ports import (
    Generation,
    GenerationRequest,
    Generator,
    Journal,
    ModelHandle,
    Score,
    Scorer,
    ScoreRequest,
)
from arbiter.protocols.records import Gathered, LookaheadStats, Model

Request = TypeVar("Request", GenerationRequest, ScoreRequest, tuple[ScoreRequest, ...])
Answer = TypeVar("Answer", Generation, Score, tuple[Generation, ...], tuple[Score, ...])
Answered = TypeVar("Answered", CallGenerated, CallScored)

_RETRIES: ContextVar["_Attempts | None"] = ContextVar("retries", default=None)


def note_retry(attempt: int, pause: float, error: str, busy: bool = False) -> None:
    """Record a failed attempt at the current call. For backends that retry requests.

    ``attempt`` counts from 1. The next attempt follows after ``pause`` seconds. ``error`` says what failed. ``busy`` is
    True if the server is overloaded; an adaptive limit is then lowered. Outside a call of a ring this does nothing.
    """
    attempts = _RETRIES.get()
    if attempts is not None:
        attempts.note(attempt, pause, error, busy)


class _Attempts:
    """The attempts at one request, which has the ``number`` at its model's limiter."""

    __slots__ = ("_call", "_journal", "_last", "_limiter", "number")

    def __init__(self, call: "ModelRequest", journal: Journal, limiter: ConcurrencyLimiter, number: int) -> None:
        self._call = call
        self._journal = journal
        self._limiter = limiter
        self._last = 0
        self.number = number

    def note(self, attempt: int, pause: float, error: str, busy: bool) -> None:
        """Record a failed attempt. A model may make several requests for a call, each with attempts from 1."""
        self._last = max(attempt, self._last + 1)
        if busy:
            self._limiter.refused(self.number)
        if self._journal.kept:
            self._journal.note(self._call.retried(CallRetried(self._last, round(pause, 6), error)))


class ModelRequest:
    """A request that an actor makes for a message. ``index`` distinguishes the requests of one message.

    ``actor`` is the name of the actor, and ``model`` the role of the model. ``target`` is the name of the target, if
    the policy has several.
    """

    __slots__ = ("actor", "cause", "id", "index", "message", "model", "target")

    def __init__(self, actor: str, message: Message, model: Model, index: int, target: str = "") -> None:
        self.actor = actor
        self.message = message
        self.model: Model = model
        self.index = index
        self.target = target
        self.cause = message.id
        self.id = call_id(self.cause, model, index)

    @property
    def is_ahead(self) -> bool:
        """Whether it drafts ahead: its step is ``index`` steps after the step of its message."""
        return self.model == "draft" and self.index > 0

    def start_entry(self) -> Entry:
        """Return the journal entry for the start of the request."""
        return self._entry(self.id, self.cause, CallStarted(self.model, self.index, self.target))

    def ended(self, outcome: AnyPayload) -> Entry:
        """Return the journal entry for its outcome."""
        return self._entry(answer_id(self.id), self.id, outcome)

    def retried(self, retried: CallRetried) -> Entry:
        """Return the journal entry for a failed attempt."""
        return self._entry(retry_id(self.id, retried.attempt), self.id, retried)

    def _entry(self, name: str, cause: str, payload: AnyPayload) -> Entry:
        context = self.message.context
        task = context.task
        return Entry(name, self.actor, payload, cause, task.id, task.sample, context.step, derived=True)


class RequestExecutor:
    """Makes the requests of a ring's actors.

    If the journal has the answer from an earlier session, it is used and no request is made.
    """

    def __init__(self, registry: ProblemRegistry, journal: Journal) -> None:
        self._registry = registry
        self._journal = journal
        self._clock = running_clock()
        self.limiters: list[ConcurrencyLimiter] = []

    def limiter(self, name: str, handle: ModelHandle[Generator] | ModelHandle[Scorer]) -> ConcurrencyLimiter:
        """Return a limiter for a model; ``name`` is its configuration key after ``models.``."""
        limiter = ConcurrencyLimiter(name, handle, self._journal)
        self.limiters.append(limiter)
        return limiter

    def order(self, task: Task) -> int:
        """Return how many problems entered the ring before ``task``."""
        return self._registry.number(task)

    def listener(self, task: Task) -> Listen | None:
        """Return what takes the pieces of the steps of ``task``; None if they are not wanted."""
        return self._registry.listener(task)

    async def generate(
        self,
        call: ModelRequest,
        generator: Generator,
        limiter: ConcurrencyLimiter,
        request: GenerationRequest,
        gathering: Gathering | None = None,
    ) -> CallGenerated:
        """Return the model's step. An escalation may be held in a ``gathering`` first, unless its answer is recorded.

        Raises the model's error, and ``BackendError`` for a confidence outside (0, 1], or for requested tokens that are
        missing or wrong.
        """
        return await self._gathered(call, limiter, generator.generate, request, generated, gathering)

    async def generate_block(
        self,
        call: ModelRequest,
        generator: WritesBlocks,
        limiter: ConcurrencyLimiter,
        request: GenerationRequest,
        steps: int,
    ) -> CallGenerated:
        """Return up to ``steps`` steps of one request. Raises as ``generate``."""

        async def send(one: GenerationRequest) -> tuple[Generation, ...]:
            return await generator.generate_block(one, steps)

        return await self._gathered(call, limiter, send, request, generated_block, None)

    async def generate_calls(
        self,
        call: ModelRequest,
        write: Callable[[GenerationRequest], Awaitable[tuple[Generation, ...]]],
        limiter: ConcurrencyLimiter,
        request: GenerationRequest,
        gathering: Gathering | None = None,
    ) -> CallGenerated:
        """Return the steps that ``write`` makes of one answer, one for each of its calls. Raises as ``generate``."""
        return await self._gathered(call, limiter, write, request, generated_block, gathering)

    async def score_block(
        self, call: ModelRequest, scorer: ScoresBlocks, limiter: ConcurrencyLimiter, requests: tuple[ScoreRequest, ...]
    ) -> CallScored:
        """Return the scores of several candidates from one request. Raises as ``score``."""
        recalled = self._recalled(call, CallScored)
        if recalled is not None:
            return recalled
        return await self._request(call, limiter, scorer.score_block, requests, scored_block, None)

    async def score(
        self, call: ModelRequest, scorer: Scorer, limiter: ConcurrencyLimiter, request: ScoreRequest
    ) -> CallScored:
        """Return the model's score. Raises the model's error, and ``BackendError`` for a value outside [0, 1]."""
        recalled = self._recalled(call, CallScored)
        if recalled is not None:
            return recalled
        return await self._request(call, limiter, scorer.score, request, scored, None)

    async def _gathered(
        self,
        call: ModelRequest,
        limiter: ConcurrencyLimiter,
        send: Callable[[GenerationRequest], Awaitable[Answer]],
        request: GenerationRequest,
        read: Callable[[Answer, GenerationRequest, float, Gathered | None], CallGenerated],
        gathering: Gathering | None,
    ) -> CallGenerated:
        recalled = self._recalled(call, CallGenerated)
        if recalled is not None:
            return recalled
        if gathering is None:
            return await self._request(call, limiter, send, request, read, None)
        async with gathering.joined(call.message.context.task) as gathered:  # before the slot: see ``Gathering``
            return await self._request(call, limiter, send, request, read, gathered)

    async def _request(
        self,
        call: ModelRequest,
        limiter: ConcurrencyLimiter,
        send: Callable[[Request], Awaitable[Answer]],
        request: Request,
        read: Callable[[Answer, Request, float, Gathered | None], Answered],
        gathered: Gathered | None,
    ) -> Answered:
        """Make one request when it gets a slot. ``read`` checks its answer, and makes the outcome of it."""
        task, journal = call.message.context.task, self._journal
        if not limiter.take_now():
            await limiter.take((call.is_ahead, self.order(task)))
        attempts, is_taken = _Attempts(call, journal, limiter, limiter.ask()), True
        try:
            if journal.kept:
                await journal.write(call.start_entry())
            # counted as running until the answer is recorded: see ``ProblemRegistry.request_counts``
            with self._registry.request(task, call.model, call.target) as counted:
                if call.is_ahead:
                    self._registry.add_lookahead(task, LookaheadStats(started=1))
                started, retries = self._clock(), _RETRIES.set(attempts)
                try:
                    answer = await send(request)
                    seconds = round(self._clock() - started, 6)  # microseconds: the log needs no more digits
                    answered = read(answer, request, seconds, gathered)
                except BaseException as error:
                    await self._record_failure(call, error, started)
                    raise
                finally:
                    _RETRIES.reset(retries)
                limiter.answered(attempts.number, seconds, answered.usage.completion_tokens)
                limiter.give()  # the slot is only held during the call of the model
                is_taken = False
                if journal.kept:
                    await journal.write(call.ended(answered))
                counted.usage = answered.cost
        finally:
            if is_taken:
                limiter.give()
        return answered

    async def _record_failure(self, call: ModelRequest, error: BaseException, started: float) -> None:
        """Record that a request failed with ``error``, or was cancelled. A cancelled task must not wait."""
        seconds = round(self._clock() - started, 6)
        if not self._journal.kept:
            return
        if isinstance(error, Exception):
            await self._journal.write(call.ended(CallFailed(format_error(error), seconds)))
        else:
            self._journal.note(call.ended(CallCancelled(seconds)))

    def _recalled(self, call: ModelRequest, kind: type[Answered]) -> Answered | None:
        """Return the answer that an earlier session recorded; None if there is none."""
        outcome = self._journal.recall(call.id) if self._journal.kept else None
        if outcome is None:
            return None
        with self._registry.request(call.message.context.task, call.model, call.target) as counted:
            if isinstance(outcome, CallFailed):
                raise RecordedError(outcome.error)
            if not isinstance(outcome, kind):
                raise BackendError(f"the log has an answer of another kind for {call.id} than was requested")
            counted.usage = outcome.at(0).cost  # the steps after it are recalled as well
        return outcome
