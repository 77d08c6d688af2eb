"""Requests to models: the one place where they are limited, counted, timed and recorded."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

import anyio
import msgspec

from arbiter.actors.error_text import format_error
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
from arbiter.protocols.records import LookaheadStats, Model, Usage

Answered = TypeVar("Answered", CallGenerated, CallScored)

_UNTOLD = -1.0  # seconds of an answer whose port leaves it to the clock here


_RETRIES: ContextVar[Callable[[CallRetried, bool], None]] = ContextVar("retries", default=lambda retried, busy: None)


def note_retry(attempt: int, pause: float, error: str, busy: bool = False) -> None:
    """For backends: an ``attempt`` (from 1) at the call being made has failed; another follows in ``pause`` seconds.

    ``busy``: since the server has too much to do. Outside a ring's call it does nothing.
    """
    _RETRIES.get()(CallRetried(attempt, round(pause, 6), error), busy)


class ModelRequest:
    """A request that an actor makes on behalf of a message; ``index`` tells those of one message apart.

    ``target`` names the target, where the policy knows several.
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
        """Whether nobody has asked for its answer yet: a draft ``index`` steps ahead of its message's."""
        return self.model == "draft" and self.index > 0

    def asked(self) -> Entry:
        return self._entry(self.id, self.message.id, CallStarted(self.model, self.index, self.target))

    def ended(self, outcome: AnyPayload) -> Entry:
        return self._entry(answer_id(self.id), self.id, outcome)

    def retried(self, retried: CallRetried) -> Entry:
        return self._entry(retry_id(self.id, retried.attempt), self.id, retried)

    def _entry(self, name: str, cause: str, payload: AnyPayload) -> Entry:
        context = self.message.context
        return Entry(name, self.actor, payload, cause, context.task.id, context.task.sample, context.step)


class RequestExecutor:
    """Makes the requests of a ring's actors.

    What a journal remembers of an earlier session is answered from there, and costs nothing again.
    """

    def __init__(self, registry: ProblemRegistry, journal: Journal) -> None:
        self._registry = registry
        self._journal = journal
        self.limiters: list[ConcurrencyLimiter] = []

    def limiter(self, name: str, handle: ModelHandle[Generator] | ModelHandle[Scorer]) -> ConcurrencyLimiter:
        """The places at a seat; ``name`` is the model's key behind ``models.``."""
        limiter = ConcurrencyLimiter(name, handle, self._journal)
        self.limiters.append(limiter)
        return limiter

    def order(self, task: Task) -> int:
        """How many problems were let in before ``task``."""
        return self._registry.number(task)

    async def generate(
        self, call: ModelRequest, generator: Generator, limiter: ConcurrencyLimiter, request: GenerationRequest
    ) -> CallGenerated:
        """The model's step. Raises what the model raised, and ``BackendError`` for a confidence outside (0, 1]."""

        async def ask() -> CallGenerated:
            made = await generator.generate(request)
            made.text.encode()  # a text that no log can hold is this request's failure
            if made.confidence is not None and not 0.0 < made.confidence <= 1.0:  # NaN fails this as well
                raise BackendError(f"the {request.author} model told a confidence of {made.confidence}, not in (0, 1]")
            overhead = None if made.overhead == Usage() else made.overhead
            return CallGenerated(
                made.text,
                made.stop_reason,
                made.usage,
                _UNTOLD if made.seconds is None else made.seconds,
                overhead,
                made.prefix_match,
                stored=made.seconds is not None and not made.fresh,
                confidence=made.confidence,
            )

        return await self._made(call, limiter, ask, CallGenerated)

    async def score(
        self, call: ModelRequest, scorer: Scorer, limiter: ConcurrencyLimiter, request: ScoreRequest
    ) -> CallScored:
        """The model's score. Raises what the model raised, and ``BackendError`` for a value outside [0, 1]."""

        async def ask() -> CallScored:
            made = await scorer.score(request)
            for value in (made.value, *made.estimates):
                if not 0.0 <= value <= 1.0:  # NaN fails this as well
                    raise BackendError(f"the {request.score_kind} model scored {value}, and a score lies in [0, 1]")
            seconds = _UNTOLD if made.seconds is None else made.seconds
            stored = made.seconds is not None and not made.fresh
            return CallScored(made.value, made.usage, seconds, stored, made.estimates)

        return await self._made(call, limiter, ask, CallScored)

    async def _made(
        self,
        call: ModelRequest,
        limiter: ConcurrencyLimiter,
        ask: Callable[[], Awaitable[Answered]],
        kind: type[Answered],
    ) -> Answered:
        recalled = self._journal.recall(call.id)
        if recalled is not None:
            return self._recalled(call, recalled, kind)
        task = call.message.context.task
        number = await limiter.take((call.is_ahead, self.order(task)))
        is_taken = True
        try:
            if self._journal.kept:
                await self._journal.write(call.asked())
            with self._registry.request(
                task, call.model, call.target
            ) as counted:  # until recorded: see ``ProblemRegistry.calls``
                if call.is_ahead:
                    self._registry.add_lookahead(task, LookaheadStats(started=1))
                answered = await self._asked(call, limiter, number, ask)
                limiter.give()  # the limit is held around the model's call alone
                is_taken = False
                if self._journal.kept:
                    await self._journal.write(call.ended(answered))
                counted.usage = answered.cost
        finally:
            if is_taken:
                limiter.give()
        return answered

    async def _asked(
        self, call: ModelRequest, limiter: ConcurrencyLimiter, number: int, ask: Callable[[], Awaitable[Answered]]
    ) -> Answered:
        def retried(retried: CallRetried, busy: bool) -> None:
            if busy:
                limiter.refused(number)
            if self._journal.kept:
                self._journal.note(call.retried(retried))

        started = anyio.current_time()
        retries = _RETRIES.set(retried)
        try:
            answered = await ask()
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

    def _recalled(
        self, call: ModelRequest, outcome: CallGenerated | CallScored | CallFailed, kind: type[Answered]
    ) -> Answered:
        with self._registry.request(call.message.context.task, call.model, call.target) as counted:
            if isinstance(outcome, CallFailed):
                raise RecordedError(outcome.error)
            if not isinstance(outcome, kind):
                raise BackendError(f"the log holds another answer to {call.id} than was asked for")
            counted.usage = outcome.cost
        return outcome


def _timed(answered: Answered, started: float) -> Answered:
    """With the seconds since ``started``, unless the port has told them: of an answer from before, or a fresh one."""
    return msgspec.structs.replace(answered, seconds=_since(started)) if answered.seconds == _UNTOLD else answered


def _since(started: float) -> float:
    """Seconds, to the microsecond: a log has no use for more digits."""
    return round(anyio.current_time() - started, 6)
