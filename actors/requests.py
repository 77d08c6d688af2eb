"""Requests to models. All of them go through this module, which limits, counts, times and records them."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

import anyio
import msgspec

from arbiter.actors.error_text import format_error
from arbiter.actors.gathering import Gathering
from arbiter.actors.limiter import ConcurrencyLimiter
from arbiter.actors.registry import ProblemRegistry
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
from arbiter.protocols.ports import GenerationRequest, Generator, Journal, ModelHandle, Scorer, ScoreRequest
from arbiter.protocols.records import Gathered, LookaheadStats, Model, Usage

Answered = TypeVar("Answered", CallGenerated, CallScored)

_NOT_MEASURED = -1.0  # seconds of an answer that this module must time


_RETRIES: ContextVar[Callable[[CallRetried, bool], None]] = ContextVar("retries", default=lambda retried, busy: None)


def note_retry(attempt: int, pause: float, error: str, busy: bool = False) -> None:
    """Record a failed attempt at the current call. For backends that retry requests.

    ``attempt`` counts from 1. The next attempt follows after ``pause`` seconds. ``error`` says what failed. ``busy`` is
    True if the server is overloaded; an adaptive limit is then lowered. Outside a call of a ring this does nothing.
    """
    _RETRIES.get()(CallRetried(attempt, round(pause, 6), error), busy)


class ModelRequest:
    """A request that an actor makes for a message. ``index`` distinguishes the requests of one message.

    ``actor`` is the name of the actor, and ``model`` the role of the model. ``target`` is the name of the target, if
    the policy has several.
    """

    __slots__ = ("actor", "id", "index", "message", "model", "target")

    def __init__(self, actor: str, message: Message, model: Model, index: int, target: str = "") -> None:
        self.actor = actor
        self.message = message
        self.model: Model = model
        self.index = index
        self.target = target
        self.id = call_id(message.id, model, index)

    @property
    def is_ahead(self) -> bool:
        """Whether it drafts ahead: its step is ``index`` steps after the step of its message."""
        return self.model == "draft" and self.index > 0

    def start_entry(self) -> Entry:
        """Return the journal entry for the start of the request."""
        return self._entry(self.id, self.message.id, CallStarted(self.model, self.index, self.target))

    def ended(self, outcome: AnyPayload) -> Entry:
        """Return the journal entry for its outcome."""
        return self._entry(answer_id(self.id), self.id, outcome)

    def retried(self, retried: CallRetried) -> Entry:
        """Return the journal entry for a failed attempt."""
        return self._entry(retry_id(self.id, retried.attempt), self.id, retried)

    def _entry(self, name: str, cause: str, payload: AnyPayload) -> Entry:
        context = self.message.context
        return Entry(name, self.actor, payload, cause, context.task.id, context.task.sample, context.step)


class RequestExecutor:
    """Makes the requests of a ring's actors.

    If the journal has the answer from an earlier session, it is used and no request is made.
    """

    def __init__(self, registry: ProblemRegistry, journal: Journal) -> None:
        self._registry = registry
        self._journal = journal
        self.limiters: list[ConcurrencyLimiter] = []

    def limiter(self, name: str, handle: ModelHandle[Generator] | ModelHandle[Scorer]) -> ConcurrencyLimiter:
        """Return a limiter for a model; ``name`` is its configuration key after ``models.``."""
        limiter = ConcurrencyLimiter(name, handle, self._journal)
        self.limiters.append(limiter)
        return limiter

    def order(self, task: Task) -> int:
        """Return how many problems entered the ring before ``task``."""
        return self._registry.number(task)

    async def generate(
        self,
        call: ModelRequest,
        generator: Generator,
        limiter: ConcurrencyLimiter,
        request: GenerationRequest,
        gathering: Gathering | None = None,
    ) -> CallGenerated:
        """Return the model's step. An escalation may be held in a ``gathering`` first, unless its answer is recorded.

        Raises the model's error, and ``BackendError`` for a confidence outside (0, 1].
        """
        recalled = self._recalled(call, CallGenerated)
        if recalled is not None:
            return recalled
        if gathering is None:
            return await self._generate(call, generator, limiter, request, None)
        async with gathering.joined(call.message.context.task) as gathered:  # before the slot: see ``Gathering``
            return await self._generate(call, generator, limiter, request, gathered)

    async def _generate(
        self,
        call: ModelRequest,
        generator: Generator,
        limiter: ConcurrencyLimiter,
        request: GenerationRequest,
        gathered: Gathered | None,
    ) -> CallGenerated:
        async def send() -> CallGenerated:
            answer = await generator.generate(request)
            answer.text.encode()  # a text that the log cannot encode fails this request
            if answer.confidence is not None and not 0.0 < answer.confidence <= 1.0:  # NaN fails, too
                raise BackendError(
                    f"the {request.author} model returned a confidence of {answer.confidence}, not in (0, 1]"
                )
            overhead = None if answer.overhead == Usage() else answer.overhead
            return CallGenerated(
                answer.text,
                answer.stop_reason,
                answer.usage,
                _NOT_MEASURED if answer.seconds is None else answer.seconds,
                overhead,
                answer.prefix_match,
                stored=answer.seconds is not None and not answer.fresh,
                confidence=answer.confidence,
                gathered=gathered,
            )

        return await self._request(call, limiter, send)

    async def score(
        self, call: ModelRequest, scorer: Scorer, limiter: ConcurrencyLimiter, request: ScoreRequest
    ) -> CallScored:
        """Return the model's score. Raises the model's error, and ``BackendError`` for a value outside [0, 1]."""
        recalled = self._recalled(call, CallScored)
        if recalled is not None:
            return recalled

        async def send() -> CallScored:
            answer = await scorer.score(request)
            for value in (answer.value, *answer.estimates):
                if not 0.0 <= value <= 1.0:  # NaN fails, too
                    raise BackendError(f"the {request.score_kind} model scored {value}, but a score must be in [0, 1]")
            seconds = _NOT_MEASURED if answer.seconds is None else answer.seconds
            stored = answer.seconds is not None and not answer.fresh
            return CallScored(answer.value, answer.usage, seconds, stored, answer.estimates)

        return await self._request(call, limiter, send)

    async def _request(
        self, call: ModelRequest, limiter: ConcurrencyLimiter, send: Callable[[], Awaitable[Answered]]
    ) -> Answered:
        task = call.message.context.task
        number = await limiter.take((call.is_ahead, self.order(task)))
        is_taken = True
        try:
            if self._journal.kept:
                await self._journal.write(call.start_entry())
            # counted as running until the answer is recorded: see ``ProblemRegistry.request_counts``
            with self._registry.request(task, call.model, call.target) as counted:
                if call.is_ahead:
                    self._registry.add_lookahead(task, LookaheadStats(started=1))
                answered = await self._timed_request(call, limiter, number, send)
                limiter.give()  # the slot is only held during the call of the model
                is_taken = False
                if self._journal.kept:
                    await self._journal.write(call.ended(answered))
                counted.usage = answered.cost
        finally:
            if is_taken:
                limiter.give()
        return answered

    async def _timed_request(
        self, call: ModelRequest, limiter: ConcurrencyLimiter, number: int, send: Callable[[], Awaitable[Answered]]
    ) -> Answered:
        def retried(retried: CallRetried, busy: bool) -> None:
            if busy:
                limiter.refused(number)
            if self._journal.kept:
                self._journal.note(call.retried(retried))

        started = anyio.current_time()
        retries = _RETRIES.set(retried)
        try:
            answered = await send()
        except Exception as error:
            if self._journal.kept:
                await self._journal.write(call.ended(CallFailed(format_error(error), _since(started))))
            raise
        except BaseException:
            if self._journal.kept:
                self._journal.note(call.ended(CallCancelled(_since(started))))
            raise
        finally:
            _RETRIES.reset(retries)
        limiter.answered(number, _since(started), answered.usage.completion_tokens)
        return _timed(answered, started)

    def _recalled(self, call: ModelRequest, kind: type[Answered]) -> Answered | None:
        """Return the answer that an earlier session recorded; None if there is none."""
        outcome = self._journal.recall(call.id)
        if outcome is None:
            return None
        with self._registry.request(call.message.context.task, call.model, call.target) as counted:
            if isinstance(outcome, CallFailed):
                raise RecordedError(outcome.error)
            if not isinstance(outcome, kind):
                raise BackendError(f"the log has an answer of another kind for {call.id} than was requested")
            counted.usage = outcome.cost
        return outcome


def _timed(answered: Answered, started: float) -> Answered:
    """Return ``answered`` with the seconds since ``started``, unless the model reported its own."""
    return msgspec.structs.replace(answered, seconds=_since(started)) if answered.seconds == _NOT_MEASURED else answered


def _since(started: float) -> float:
    """Return the seconds since ``started``, rounded to microseconds: the log needs no more digits."""
    return round(anyio.current_time() - started, 6)
