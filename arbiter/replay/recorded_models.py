"""Models that give the answers of a log at the recorded times."""

import math
from typing import TypeVar, get_args

import anyio

from arbiter.actors.ring_setup import Models
from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.protocols.errors import RecordedError
from arbiter.protocols.events import CallFailed, CallGenerated, CallScored
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Score, Scorer, ScoreRequest
from arbiter.protocols.records import ScoreKind, Usage
from arbiter.protocols.tools import content_of

UNLIMITED = 1_000_000
Answer = TypeVar("Answer", CallGenerated, CallScored)


def as_generation(made: CallGenerated) -> Generation:
    """Convert a recorded step into the answer of a generator."""
    overhead, seconds = made.overhead or Usage(), made.seconds if made.stored else None
    return Generation(
        content_of(made.text, made.calls),
        made.stop_reason,
        made.usage,
        overhead,
        made.prefix_match,
        seconds,
        confidence=made.confidence,
        calls=made.calls,
        valid=made.valid,
        violation=made.violation,
        tries=made.tries,
        tokens=made.tokens,
        token_ids=made.token_ids,
        overrun=made.overrun,
    )


def as_score(made: CallScored) -> Score:
    """Convert a recorded score into the answer of a scorer."""
    return Score(made.value, made.usage, made.seconds if made.stored else None, estimates=made.estimates)


class _AnyTarget(dict[str, ModelHandle[Generator]]):
    """The targets of a recorded run. Every name has the same handle."""

    def __init__(self, handle: ModelHandle[Generator]) -> None:
        super().__init__()
        self._handle = handle

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> ModelHandle[Generator]:
        return self._handle


class RecordedModels:
    """All models of a recorded run, for the problems that are being replayed.

    Each answer comes at its recorded time after the start of its problem. If nothing else of its problem was awaited at
    the same time, it comes immediately: the order of the problem's events is the same, and no task has to sleep. A call
    that was cancelled, or that has no recorded end, is never answered.
    """

    def __init__(self) -> None:
        self._calls: dict[str, tuple[CallHistory, float | None]] = {}

    def begin(self, problem: ProblemHistory) -> None:
        """Add the calls of a problem that starts now."""
        offset, alone = anyio.current_time() - problem.start.mono, _awaited_alone(problem)
        for name, call in problem.answers().items():
            due = None if call.ended is None or name in alone else offset + call.ended.mono
            self._calls[name] = call, due

    def end(self, problem: ProblemHistory) -> None:
        """Remove the calls of a problem that has ended."""
        for name in problem.answers():
            self._calls.pop(name, None)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Return the recorded step. Raises ``RecordedError`` if the recorded call failed."""
        made = await self._answer(request.call, CallGenerated)
        return as_generation(made)

    async def score(self, request: ScoreRequest) -> Score:
        """Return the recorded score. Raises ``RecordedError`` if the recorded call failed."""
        made = await self._answer(request.call, CallScored)
        return as_score(made)

    def handles(self) -> Models:
        """Return model handles for a ring. They limit nothing: the recorded times include the waiting for slots."""
        writer, scorer = ModelHandle[Generator](self, UNLIMITED), ModelHandle[Scorer](self, UNLIMITED)
        return Models(writer, writer, dict.fromkeys(get_args(ScoreKind), scorer), _AnyTarget(writer))

    async def _answer(self, name: str, kind: type[Answer]) -> Answer:
        call, due = self._calls[name]
        if due is not None:
            await anyio.sleep_until(due)
        if isinstance(call.outcome, CallFailed):
            raise RecordedError(call.outcome.error)
        while not isinstance(call.outcome, kind):
            await anyio.sleep_forever()
        return call.outcome


def _awaited_alone(problem: ProblemHistory) -> set[str]:
    """Return the calls that no other call of the problem was awaited with, from the message to the answer of each."""
    awaited: list[tuple[float, float, str]] = []
    for name, call in problem.answers().items():
        reused = problem.reused.get(name)
        if reused is None and call.is_extra:
            continue  # a replay neither drafts ahead nor scores blocks
        first = reused or call.started
        message = None if first is None else problem.messages.get(first.cause or "")
        begin = -math.inf if message is None else message.mono
        awaited.append((begin, math.inf if call.ended is None else max(begin, call.ended.mono), name))
    awaited.sort()
    alone, until, following = set[str](), -math.inf, [one[0] for one in awaited[1:]] + [math.inf]
    for (begin, end, name), next_begin in zip(awaited, following, strict=False):
        if until <= begin and end <= next_begin:
            alone.add(name)
        until = max(until, end)
    return alone
