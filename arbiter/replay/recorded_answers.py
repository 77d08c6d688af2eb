"""Models that answer what a log says they answered, wherever they are asked the same again."""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import anyio

from arbiter.actors.journal import NoJournal
from arbiter.log.history import CallHistory, Key, ProblemHistory
from arbiter.protocols.errors import BackendError, RecordedError
from arbiter.protocols.events import CallFailed, CallGenerated, CallScored, Entry
from arbiter.protocols.ids import CallId
from arbiter.protocols.ports import Generation, GenerationRequest, Score, ScoreRequest
from arbiter.protocols.records import Model, Record, Step, Transcript
from arbiter.replay.recorded_models import as_generation, as_score

Answer = TypeVar("Answer", CallGenerated, CallScored)
Speeds = Mapping[Model, float]
"""By model: how many times as fast as in the run its server is; 1 where it is left out."""


class Divergence(Record, frozen=True):
    """A problem that left the recording: at ``step``, from 0, it asked ``model`` what the run had not asked."""

    problem: str
    sample: int
    step: int
    model: Model


class _Known(NamedTuple):
    """A call, the steps that were ``before`` it, and of a writer's which target and measure were asked for."""

    call: CallHistory
    before: tuple[Step, ...]
    target: str
    measure: str | None


class KnownAnswers:
    """All models of a recorded run, as far as it asked them. A call takes as long as it did, by ``speeds``."""

    def __init__(self, speeds: Speeds) -> None:
        self._speeds = speeds
        self._calls: dict[str, _Known] = {}
        self.unanswered: set[str] = set()

    def add(self, problem: ProblemHistory) -> None:
        """Take in the calls of ``problem``, each with the steps that were before it."""
        given = len(problem.task.steps)
        steps = (*problem.task.steps, *(Step(step.kept.text, step.kept.author) for step in problem.steps()))
        for name, call in problem.answers().items():
            asked = problem.reused.get(name, call.asked)
            if asked is not None and asked.step is not None and (name in problem.reused or not call.is_ahead):
                measure = problem.task.policy.get("confidence") if call.model == "draft" else None
                self._calls[name] = _Known(call, steps[: given + asked.step], problem.target_of(call), measure)

    async def generate(self, request: GenerationRequest) -> Generation:
        """The recorded step. Raises ``RecordedError`` where the call had failed, ``BackendError`` if there is none."""
        known = self._calls.get(request.call)
        if known and (known.target != request.target or request.confidence not in (None, known.measure)):
            known = None  # another target, or another measure of the draft's confidence, was asked
        made = await self._answer(request.call, known, request.transcript, CallGenerated)
        return as_generation(made)

    async def score(self, request: ScoreRequest) -> Score:
        """The recorded score. Raises as ``generate``."""
        made = await self._answer(request.call, self._calls.get(request.call), request.transcript, CallScored)
        return as_score(made)

    async def _answer(self, name: str, known: "_Known | None", transcript: Transcript, kind: type[Answer]) -> Answer:
        outcome = known.call.outcome if known is not None and transcript.steps == known.before else None
        if known is None or not isinstance(outcome, kind | CallFailed):
            self.unanswered.add(name)
            raise BackendError(f"the recording has no answer to {name}")
        await anyio.sleep(outcome.seconds / self._speeds.get(known.call.model, 1.0))
        if isinstance(outcome, CallFailed):
            raise RecordedError(outcome.error)
        return outcome


class DivergenceJournal(NoJournal):
    """Notes where problems leave the recording. An audit serves the report alone, and none leaves it for that."""

    kept = True

    def __init__(self, answers: KnownAnswers) -> None:
        self._answers = answers
        self.left: dict[Key, Divergence] = {}

    async def write(self, entry: Entry) -> None:
        if entry.cause is None or entry.cause not in self._answers.unanswered:
            return
        model = CallId.parse(entry.cause).model
        if model != "audit" and entry.problem is not None:
            left = Divergence(entry.problem, entry.sample, entry.step or 0, model)
            self.left.setdefault((entry.problem, entry.sample), left)
