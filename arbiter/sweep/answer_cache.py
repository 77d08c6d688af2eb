"""The store of answers: what one run has asked, no other run asks again."""

import hashlib
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskGroup

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Score, Scorer, ScoreRequest
from arbiter.protocols.records import Transcript
from arbiter.replay.recorded_models import UNLIMITED

Request = GenerationRequest | ScoreRequest
Answer = TypeVar("Answer", Generation, Score)


def annotated_models(config: Config) -> frozenset[str]:
    """The models whose prompts name the authors of steps."""
    annotated = {name for name, table in config.models.configured().items() if table.annotate}
    first = next(iter(config.models.targets.values()), None)  # of several, the target of those who know one
    return frozenset(annotated | ({"target"} if first and first.annotate else set()))


def key_of(request: Request, annotated: Collection[str]) -> bytes:
    """The digest of all that decides the answer, and of nothing else.

    Not whose request it is, nor a proposal or what is ahead. Authors count for the models in ``annotated``, the seed
    and ``top_p`` above temperature 0.
    """
    if isinstance(request, ScoreRequest):
        named = request.score_kind in annotated
        author = request.author if named else None
        asked = (request.score_kind, _as_seen(request.transcript, named), request.candidate, author, request.separator)
    else:
        writer = f"targets.{request.target}" if request.target else request.author
        context = _as_seen(request.transcript, writer in annotated)
        noise = (request.temperature, request.top_p, request.seed) if request.temperature else ()
        asked = (writer, context, request.separator, request.max_tokens, noise, request.confidence)
    return hashlib.blake2b(msgspec.json.encode(asked), digest_size=16).digest()


def _as_seen(transcript: Transcript, annotated: bool) -> tuple[object, ...]:
    steps = (step if annotated else step.text for step in transcript.steps)
    return transcript.turns, transcript.question, *steps


class AnswerStore:
    """Generator and scorer for many rings, over the models of one. Equal requests are one request at the model.

    Those that come while it is being answered wait for it. It is cancelled when nobody waits any more; a failure is
    that of all who wait, and is not kept. The first who takes an answer has it ``fresh``, all others as a stored one,
    both with the seconds that the model took. The seats of ``models`` limit the requests at the models; waiting for
    another's request takes no seat. ``tasks`` outlives the rings; ``annotated`` are the
    models whose prompts name the authors.
    """

    def __init__(self, models: Models, annotated: Collection[str], tasks: TaskGroup) -> None:
        self._annotated = annotated
        self._generations = _Answers[Generation](tasks)
        self._scores = _Answers[Score](tasks)
        self._models = models
        self._limiters: dict[int, anyio.CapacityLimiter] = {}

    def handles(self) -> Models:
        """The models of a ring that shares the answers."""
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
        """Know an answer from before; its ``seconds`` are set."""
        if isinstance(answer, Generation):
            self._generations.keep(key_of(request, self._annotated), answer)
        else:
            self._scores.keep(key_of(request, self._annotated), answer)

    async def generate(self, request: GenerationRequest) -> Generation:
        """The model's step, of this request or of an equal one. Raises what the model raised."""
        models, key = self._models, key_of(request, self._annotated)
        one = models.draft if request.author == "draft" else models.target
        handle = models.targets[request.target] if request.target else one
        assert handle is not None  # noqa: S101 - no task comes in whose models are not there
        made = await self._generations.get(key, lambda: handle.port.generate(request), self._limiter(handle))
        return made if request.proposal else msgspec.structs.replace(made, prefix_match=None)

    async def score(self, request: ScoreRequest) -> Score:
        """The model's score, of this request or of an equal one. Raises what the model raised."""
        handle, key = self._models.scorers[request.score_kind], key_of(request, self._annotated)
        return await self._scores.get(key, lambda: handle.port.score(request), self._limiter(handle))

    def _limiter(self, handle: ModelHandle[Generator] | ModelHandle[Scorer]) -> anyio.CapacityLimiter:
        """That of the seat: the first of several targets has one, by whatever name it is asked."""
        return self._limiters.setdefault(id(handle), anyio.CapacityLimiter(handle.in_flight))


class _Flight(Generic[Answer]):
    """A request at the model, and how many wait for it."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self._landed = anyio.Event()
        self._waiting = 0
        self._taken = False

    async def wait(self) -> Answer:
        self._waiting += 1
        try:
            await self._landed.wait()
        finally:
            self._waiting -= 1
            if not self._waiting and not self._landed.is_set():
                self.scope.cancel()
        if self.answer is None:
            raise self.error or RuntimeError("a request ended without an answer")
        fresh, self._taken = not self._taken, True
        return msgspec.structs.replace(self.answer, fresh=fresh)

    def land(self) -> None:
        self._landed.set()


class _Answers(Generic[Answer]):
    """Answers of one kind, kept or on their way."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._kept: dict[bytes, Answer] = {}
        self._flights: dict[bytes, _Flight[Answer]] = {}

    def keep(self, key: bytes, answer: Answer) -> None:
        self._kept.setdefault(key, msgspec.structs.replace(answer, fresh=False))

    async def get(self, key: bytes, ask: Callable[[], Awaitable[Answer]], limiter: anyio.CapacityLimiter) -> Answer:
        if key in self._kept:
            await anyio.lowlevel.checkpoint()
            return self._kept[key]
        flight = self._flights.get(key)
        if flight is None or flight.scope.cancel_called:  # whom all have left, nobody joins
            flight = self._flights[key] = _Flight[Answer]()
            self._tasks.start_soon(self._fly, key, flight, ask, limiter)
        return await flight.wait()

    async def _fly(
        self, key: bytes, flight: _Flight[Answer], ask: Callable[[], Awaitable[Answer]], limiter: anyio.CapacityLimiter
    ) -> None:
        with flight.scope:
            try:
                async with limiter:
                    started = anyio.current_time()
                    made = await ask()
                    taken = round(anyio.current_time() - started, 6) if made.seconds is None else made.seconds
                flight.answer = msgspec.structs.replace(made, seconds=taken)
            except Exception as error:  # that of all who wait
                flight.error = error
        if flight.answer is not None and _is_sound(flight.answer):
            self.keep(key, flight.answer)
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.land()


def _is_sound(answer: Generation | Score) -> bool:
    """Whether it will not be its request's failure (``arbiter.actors.requests``)."""
    if isinstance(answer, Score):
        return 0.0 <= answer.value <= 1.0
    try:
        answer.text.encode()
    except UnicodeEncodeError:
        return False
    return True
