"""The store of answers: equal requests of several runs are sent to a model once."""

import hashlib
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskGroup

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.config.model_tables import DraftHeadTable
from arbiter.protocols.model_traits import HoldsProblems
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Score, Scorer, ScoreRequest
from arbiter.protocols.records import Step, Transcript
from arbiter.replay.recorded_models import UNLIMITED

Request = GenerationRequest | ScoreRequest
Answer = TypeVar("Answer", Generation, Score)


def annotated_models(config: Config) -> frozenset[str]:
    """Return the models whose prompts name the authors of steps."""
    tables = config.models.configured()
    annotated = {name for name, table in tables.items() if not isinstance(table, DraftHeadTable) and table.annotate}
    if "draft" in annotated and isinstance(tables.get("router"), DraftHeadTable):
        annotated.add("router")  # a head reads what the draft reads
    first = next(iter(config.models.targets.values()), None)  # callers of one target get the first of several
    return frozenset(annotated | ({"target"} if first and first.annotate else set()))


def key_of(request: Request, annotated: Collection[str]) -> bytes:
    """Return the digest of everything that decides the answer, and of nothing else.

    The problem, the step's number, a proposal and drafting ahead do not count. Authors count for the models in
    ``annotated``, and seed and ``top_p`` above temperature 0.
    """
    if isinstance(request, ScoreRequest):
        named = request.score_kind in annotated
        author = request.author if named else None
        seen = _as_seen(request.transcript, named, request.of_draft)
        parts = (request.score_kind, seen, request.candidate, author, request.separator)
        parts += (request.token_ids,) if request.token_ids and request.author == "draft" else ()
    else:
        writer = f"targets.{request.target}" if request.target else request.author
        context = _as_seen(request.transcript, writer in annotated, request.wrote)
        noise = (request.temperature, request.top_p, request.seed) if request.temperature else ()
        parts = (writer, context, request.separator, request.max_tokens, noise, request.confidence)
        parts += ({"token_exact": True},) if request.token_exact else ()
        parts += (request.constraint,) if request.constraint else ()
        parts += (request.presence_penalty, request.frequency_penalty) if request.penalizes else ()
        parts += ({"top_logprobs": request.top_logprobs},) if request.top_logprobs is not None else ()
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).digest()


def _as_seen(transcript: Transcript, annotated: bool, wrote: Callable[[Step], bool]) -> tuple[object, ...]:
    """Return what a model reads of a transcript. ``wrote`` says of which steps it reads the tokens."""
    steps = (_step_as_seen(step, annotated, wrote(step)) for step in transcript.steps)
    seen = (transcript.turns, transcript.question, *steps)
    more = transcript.after or transcript.rules is not None
    return (*seen, {"after": transcript.after, "rules": transcript.rules}) if more else seen


def _step_as_seen(step: Step, annotated: bool, by_tokens: bool) -> object:
    seen = Step(step.text, step.author) if annotated else step.text
    more = (step.overrun, step.token_ids if by_tokens else ())
    return (seen, *more) if any(more) else seen


class AnswerStore:
    """A generator and scorer that many rings share. It sends equal requests to the models only once.

    An equal request that arrives before the answer waits for it. The request is cancelled when no ring waits for it any
    more. If it fails, all waiting rings get the error, which is not stored. The first ring to take an answer gets it as
    ``fresh``, all others as a stored one. Both get the seconds that the model took. The slots of ``models``
    (``in_flight``) limit the requests in flight; waiting for an equal request takes no slot. ``tasks`` must outlive the
    rings. ``annotated`` are the models whose prompts name the authors of steps.
    """

    def __init__(self, models: Models, annotated: Collection[str], tasks: TaskGroup) -> None:
        self._annotated = annotated
        self._generations = _Answers[Generation](tasks)
        self._scores = _Answers[Score](tasks)
        self._models = models
        self._limiters: dict[int, anyio.CapacityLimiter] = {}

    def handles(self) -> Models:
        """Return the models for a ring that shares the answers."""
        models, writer, scorer = (
            self._models,
            ModelHandle[Generator](self, UNLIMITED),
            ModelHandle[Scorer](self, UNLIMITED),
        )
        return Models(
            draft=models.draft and writer,
            target=models.target and writer,
            scorers=dict.fromkeys(models.scorers, scorer),
            targets=dict.fromkeys(models.targets, writer),
        )

    def keep(self, request: Request, answer: Generation | Score) -> None:
        """Store a known answer, whose ``seconds`` are set."""
        if isinstance(answer, Generation):
            self._generations.keep(key_of(request, self._annotated), answer)
        else:
            self._scores.keep(key_of(request, self._annotated), answer)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Return the model's step for this or an equal request. Raises what the model raised."""
        models, key = self._models, key_of(request, self._annotated)
        one = models.draft if request.author == "draft" else models.target
        handle = models.targets[request.target] if request.target else one
        assert handle is not None  # noqa: S101 - every task has its models
        made = await self._generations.get(key, lambda: handle.port.generate(request), self._limiter(handle))
        return made if request.proposal else msgspec.structs.replace(made, prefix_match=None)

    async def score(self, request: ScoreRequest) -> Score:
        """Return the model's score for this or an equal request. Raises what the model raised."""
        handle, key = self._models.scorers[request.score_kind], key_of(request, self._annotated)
        return await self._scores.get(key, lambda: handle.port.score(request), self._limiter(handle))

    def release(self, problem: str) -> None:
        """Have the models give up what they hold for the problem, though other runs may still request it."""
        for model in self._models.ports:
            if isinstance(model, HoldsProblems):
                model.release(problem)

    def _limiter(self, handle: ModelHandle[Generator] | ModelHandle[Scorer]) -> anyio.CapacityLimiter:
        """Return the limiter of the model behind ``handle``: one for both names of the first of several targets."""
        return self._limiters.setdefault(id(handle), anyio.CapacityLimiter(handle.in_flight))


class _Flight(Generic[Answer]):
    """A request in flight at the model, and the number of waiting callers."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self._done = anyio.Event()
        self._waiting = 0
        self._taken = False

    async def wait(self) -> Answer:
        """Return the answer. Raises the error of the request; the last caller to leave cancels it."""
        self._waiting += 1
        try:
            await self._done.wait()
        finally:
            self._waiting -= 1
            if not self._waiting and not self._done.is_set():
                self.scope.cancel()
        if self.answer is None:
            raise self.error or RuntimeError("a request ended without an answer")
        fresh, self._taken = not self._taken, True
        return msgspec.structs.replace(self.answer, fresh=fresh)

    def finish(self) -> None:
        self._done.set()


class _Answers(Generic[Answer]):
    """Answers of one kind: stored ones, and requests in flight."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._kept: dict[bytes, Answer] = {}
        self._flights: dict[bytes, _Flight[Answer]] = {}

    def keep(self, key: bytes, answer: Answer) -> None:
        self._kept.setdefault(key, msgspec.structs.replace(answer, fresh=False))

    async def get(self, key: bytes, request: Callable[[], Awaitable[Answer]], limiter: anyio.CapacityLimiter) -> Answer:
        """Return the answer with this ``key``; ``request`` gets it from the model if it is not known."""
        if key in self._kept:
            await anyio.lowlevel.checkpoint()
            return self._kept[key]
        flight = self._flights.get(key)
        if flight is None or flight.scope.cancel_called:  # a cancelled request cannot be joined
            flight = self._flights[key] = _Flight[Answer]()
            self._tasks.start_soon(self._send, key, flight, request, limiter)
        return await flight.wait()

    async def _send(
        self,
        key: bytes,
        flight: _Flight[Answer],
        request: Callable[[], Awaitable[Answer]],
        limiter: anyio.CapacityLimiter,
    ) -> None:
        with flight.scope:
            try:
                async with limiter:
                    started = anyio.current_time()
                    made = await request()
                    taken = round(anyio.current_time() - started, 6) if made.seconds is None else made.seconds
                flight.answer = msgspec.structs.replace(made, seconds=taken)
            except Exception as error:  # raised in all waiting callers
                flight.error = error
        if flight.answer is not None and _is_sound(flight.answer):
            self.keep(key, flight.answer)
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.finish()


def _is_sound(answer: Generation | Score) -> bool:
    """Whether the actors accept the answer: see ``arbiter.actors.requests`` for those that fail their request."""
    if isinstance(answer, Score):
        return 0.0 <= answer.value <= 1.0
    try:
        answer.text.encode()
    except UnicodeEncodeError:
        return False
    return True
