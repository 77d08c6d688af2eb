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
    """A recorded call and the steps ``before`` it. ``target`` and ``measure`` are those that the call requested.

    ``is_final`` is True for a draft that had to keep rules of the answer, because no target could replace it.
    """

    call: CallHistory
    before: tuple[Step, ...]
    target: str
    measure: str | None
    is_final: bool

    def is_other(self, request: GenerationRequest) -> bool:
        """Whether the run requested another target, or another measure of the draft's confidence."""
        return self.target != request.target or request.confidence not in (None, self.measure)

    @property
    def is_rewritten(self) -> bool:
        """Whether it is a draft that broke the rules of the answer and was written again, with or without success."""
        outcome = self.call.outcome
        return self.is_final and (isinstance(outcome, CallFailed) or getattr(outcome, "tries", 1) > 1)


class KnownAnswers:
    """All models of a recorded run. They answer recorded calls, in the recorded time divided by their ``speeds``.

    ``has_final_drafts`` is True if no policy decides about drafts: a draft that breaks the rules is written again.
    """

    def __init__(self, speeds: Speeds, has_final_drafts: bool) -> None:
        self._speeds = speeds
        self._has_final_drafts = has_final_drafts
        self._given: set[str] = set()
        self._calls: dict[str, _Known] = {}
        self.unanswered: set[str] = set()

    def add(self, problem: ProblemHistory) -> None:
        """Add the calls of ``problem``, each with the steps before it."""
        given, has_rules = len(problem.task.steps), problem.task.rules is not None
        steps = (*problem.task.steps, *(step.kept.step for step in problem.steps()))
        for name, call in problem.answers().items():
            event = problem.reused.get(name, call.started)
            if event is not None and event.step is not None and (name in problem.reused or not call.is_ahead):
                measure = problem.task.policy.get("confidence") if call.model == "draft" else None
                measure = "first" if call.parsed.message.kind == "glimpse_step" else measure
                before, target = steps[: given + event.step], problem.target_of(call)
                is_final = has_rules and call.model == "draft" and problem.task.policy.get("type") == "draft"
                self._calls[name] = _Known(call, before, target, measure, is_final)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Return the recorded step.

        Raises ``RecordedError`` if the recorded call failed, and ``BackendError`` if there is none.
        """
        known = self._calls.get(request.call)
        if known and (known.is_other(request) or (known.is_rewritten and not self._has_final_drafts)):
            known = None
        if request.call in self._given:
            known = None  # the run had no further try for a step that broke the rules
        self._given.add(request.call)
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
