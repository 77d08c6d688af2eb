"""The workload of a recorded run: its problems with their recorded answers, decisions and lengths."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Literal

from msgspec.structs import replace

from arbiter.actors.seeds import unit_draw
from arbiter.log.history import ProblemHistory
from arbiter.log.redaction import redacted
from arbiter.log.run import Run
from arbiter.log.step_folding import parsed_call
from arbiter.protocols.errors import BackendError, RecordedError, RunError
from arbiter.protocols.events import CallFailed, CallGenerated, CallScored, Outcome
from arbiter.protocols.ids import CallId, StepId
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal, ScoreRequest
from arbiter.protocols.records import PrefixMatch, Usage
from arbiter.replay.recorded_tasks import task_of
from arbiter.simulation.synthetic_workload import AGREEING, Quantiles

Match = Literal["recorded", "texts", "stated"]
"""The source of a match length between draft and target.

The run recorded it, or it was computed from the common prefix of both texts, or drawn from an assumed distribution.
"""

_CHARACTERS = 4  # per token, for texts whose tokens no model has counted


class RecordedWorkload:
    """The completed problems of a run, in the order of their starts, with their limits but without deadlines.

    The length of a text is the token count of the model that wrote it. The length of a question is taken from the first
    prompt. ``left_out`` counts problems that failed, reached their deadline or have no end. ``matches`` counts the
    requested match lengths by source.
    """

    def __init__(self, problems: Iterable[ProblemHistory], agreeing: Quantiles = AGREEING) -> None:
        self._agreeing = agreeing
        self._tasks: list[Task] = []
        self._answers: dict[str, Outcome] = {}
        self._drafts: dict[StepId, tuple[tuple[str, ...], CallGenerated]] = {}
        self._tokens: dict[str, int] = {}
        self.left_out = 0
        self.matches: Counter[Match] = Counter()
        for problem in sorted(problems, key=lambda problem: problem.start.seq):
            if problem.end is None or problem.end.finish_reason in ("failed", "deadline"):
                self.left_out += 1
            else:
                self._add(problem)

    @classmethod
    def open(cls, run: Run) -> "RecordedWorkload":
        """Return the workload of ``run``.

        Raises ``RunError`` if the log cannot be read, does not hold the answers, or has no completed problem.
        """
        if run.started.record == "decisions":
            raise RunError(f"{run.path} was recorded with log.record = 'decisions', which leaves out the answers")
        workload = cls(run.problems())
        if not workload.problems:
            raise RunError(f"{run.path} has no completed problem")
        return workload

    @property
    def problems(self) -> int:
        return len(self._tasks)

    def tasks(self) -> Iterator[Task]:
        return iter(self._tasks)

    def write(self, request: GenerationRequest) -> Generation:
        """Return the recorded step. An unrecorded draft ahead is as long as the run's draft of that step."""
        made = self._answers.get(request.call)
        if not isinstance(made, CallGenerated):
            if not request.ahead:
                raise _missing(made, request.call)
            return self._ahead(request)
        agreement = self._agreement(request, request.proposal, made) if request.proposal else None
        return _generation(made, agreement)

    def rate(self, request: ScoreRequest) -> float:
        made = self._answers.get(request.call)
        if not isinstance(made, CallScored):
            raise _missing(made, request.call)
        return made.value

    def measure(self, text: str) -> int:
        return self._tokens.get(text, -(-len(text) // _CHARACTERS))

    def _add(self, problem: ProblemHistory) -> None:
        task = task_of(problem)
        self._tasks.append(replace(task, limits=replace(task.limits, deadline=None)))
        texts = *(step.text for step in task.transcript.steps), *(step.kept.text for step in problem.steps())
        first = 0
        for name, call in problem.answers().items():
            if call.outcome is None:
                continue
            self._answers[name] = call.outcome
            if isinstance(made := call.outcome, CallGenerated):
                self._tokens[made.text] = max(self._tokens.get(made.text, 0), made.usage.completion_tokens)
                parsed = call.parsed if name == call.id else parsed_call(name, problem.reused[name])
                step_id = parsed.message.step
                if parsed.message.kind == "draft_step" and not parsed.is_ahead:
                    self._drafts[step_id] = texts[: len(task.transcript.steps) + step_id.step], made
                if step_id.step == 0 and parsed.index == 0:
                    first = first or made.usage.prompt_tokens
        if first:
            given = sum(self.measure(step.text) for step in task.transcript.steps)
            self._tokens[task.transcript.question] = max(first - given, 1)

    def _ahead(self, request: GenerationRequest) -> Generation:
        sample = CallId.parse(request.call).message.step.sample
        before, made = self._drafts.get(StepId(request.problem, request.step, sample), (None, None))
        if made is not None and before == tuple(step.text for step in request.transcript.steps):
            return _generation(made, None)
        tokens = made.usage.completion_tokens if made else self.measure(request.transcript.steps[-1].text)
        text = f"ahead of {request.call}"
        self._tokens[text] = tokens
        return Generation(text, "separator", Usage(completion_tokens=tokens))

    def _agreement(self, request: GenerationRequest, proposal: Proposal, made: CallGenerated) -> PrefixMatch:
        proposed, completion = self.measure(proposal.text), made.usage.completion_tokens
        if made.prefix_match is not None:
            self.matches["recorded"] += 1
            return made.prefix_match
        if proposal.text == made.text:
            self.matches["texts"] += 1
            return PrefixMatch(proposed, min(proposed, completion))
        if redacted(proposal.text) == proposal.text:
            self.matches["stated"] += 1
            share = self._agreeing.at(unit_draw(request.seed, request.problem, request.step, "world agreement"))
        else:
            self.matches["texts"] += 1
            share = _common_prefix(proposal.text, made.text) / max(len(proposal.text), 1)
        return PrefixMatch(proposed, min(int(share * proposed), completion))


def _generation(made: CallGenerated, agreement: PrefixMatch | None) -> Generation:
    usage = Usage(0, made.usage.completion_tokens)
    return Generation(made.text, made.stop_reason, usage, prefix_match=agreement, confidence=made.confidence)


def _common_prefix(one: str, other: str) -> int:
    """Return the length of the common prefix in characters."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _missing(made: Outcome | None, name: str) -> Exception:
    return (
        RecordedError(made.error) if isinstance(made, CallFailed) else BackendError(f"the run has no answer to {name}")
    )
