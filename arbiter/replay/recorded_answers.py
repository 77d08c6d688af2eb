"""Models that give the answer of a log to each request that the recorded run also made."""

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
"""By model: how many times as fast as in the run its server is. The default is 1."""


class Divergence(Record, frozen=True):
    """A problem that diverged from the recording: at ``step``, from 0, it requested something new from ``model``."""

    problem: str
    sample: int
    step: int
    model: Model


class _Known(NamedTuple):
    """A recorded call and the steps ``before`` it. ``target`` and ``measure`` are those that the call requested."""

    call: CallHistory
    before: tuple[Step, ...]
    target: str
    measure: str | None


class KnownAnswers:
    """All models of a recorded run. They answer recorded calls, in the recorded time divided by their ``speeds``."""

    def __init__(self, speeds: Speeds) -> None:
        self._speeds = speeds
        self._calls: dict[str, _Known] = {}
        self.unanswered: set[str] = set()

    def add(self, problem: ProblemHistory) -> None:
        """Add the calls of ``problem``, each with the steps before it."""
        given = len(problem.task.steps)
        steps = (*problem.task.steps, *(Step(step.kept.text, step.kept.author) for step in problem.steps()))
        for name, call in problem.answers().items():
            event = problem.reused.get(name, call.started)
            if event is not None and event.step is not None and (name in problem.reused or not call.is_ahead):
                measure = problem.task.policy.get("confidence") if call.model == "draft" else None
                self._calls[name] = _Known(call, steps[: given + event.step], problem.target_of(call), measure)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Return the recorded step.

        Raises ``RecordedError`` if the recorded call failed, and ``BackendError`` if there is none.
        """
        known = self._calls.get(request.call)
        if known and (known.target != request.target or request.confidence not in (None, known.measure)):
            known = None  # the run requested another target, or another measure of the draft's confidence
        made = await self._answer(request.call, known, request.transcript, CallGenerated)
        return as_generation(made)

    async def score(self, request: ScoreRequest) -> Score:
        """Return the recorded score. Raises like ``generate``."""
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
    """Records where problems diverge from the recording. Audits are ignored: they are only for the report."""

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
