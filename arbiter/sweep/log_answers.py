"""The answers in an event log, each with its request."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from arbiter.actors.seeds import step_seed
from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.protocols import events
from arbiter.protocols.ids import CallId, MessageId, StepId
from arbiter.protocols.ports import Generation, GenerationRequest, Score, ScoreRequest
from arbiter.protocols.records import Record, Transcript, Usage
from arbiter.replay.recorded_models import as_generation, as_score
from arbiter.sweep.answer_cache import Request


class RecordedAnswer(Record, frozen=True):
    """A request of a run, and its answer. ``stored``: the request was made by another run."""

    request: Request
    answer: Generation | Score
    stored: bool
    cost: Usage


class Spent(Record, frozen=True):
    """The number of answered requests, and the tokens that models read and wrote for them."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


NOTHING_SPENT = Spent()


class AnswerCounts(Record, frozen=True):
    """The requests that a run ``needed``, and those of them that it ``made``. ``failed`` ones are in neither."""

    needed: Spent = NOTHING_SPENT
    made: Spent = NOTHING_SPENT
    failed: int = 0


def answers_of(problem: ProblemHistory) -> Iterator[RecordedAnswer]:
    """Yield the answered requests of a problem, with their seconds. The log must be a full one (``log.record``)."""
    steps = tuple(step.kept.step for step in problem.steps())
    for call in problem.calls.values():
        message = problem.messages.get((call.started and call.started.cause) or "")
        if message is None or message.step is None:
            continue
        before = problem.task.transcript(steps[: message.step])
        match call.outcome:
            case events.CallGenerated() as made:
                answer = msgspec.structs.replace(_whole(made), seconds=made.seconds)
                yield RecordedAnswer(_generation(problem, call, message, before), answer, made.stored, made.cost)
            case events.CallScored() as made:
                answer = msgspec.structs.replace(as_score(made), seconds=made.seconds)
                yield RecordedAnswer(_score(problem, call, message, before), answer, made.stored, made.cost)
            case _:
                pass


def counted(runs: Mapping[str, Iterable[ProblemHistory]], key: Callable[[Request], bytes]) -> dict[str, AnswerCounts]:
    """Return what each run needed and made, for ``runs`` that shared their answers; ``key`` identifies requests.

    If a run was killed before it logged an answer, no run has made it. It is then counted for the first run that used
    it.
    """
    found = dict.fromkeys(runs, AnswerCounts())
    made: set[bytes] = set()
    taken: dict[bytes, tuple[str, Spent]] = {}
    for name, problems in runs.items():
        for problem in problems:
            found[name] = _plus(found[name], failed=_failures(problem))
            for answered in answers_of(problem):
                spent = _spent(answered.cost)
                found[name] = _plus(found[name], spent, NOTHING_SPENT if answered.stored else spent)
                if answered.stored:
                    taken.setdefault(key(answered.request), (name, spent))
                else:
                    made.add(key(answered.request))
    for requested, (name, spent) in taken.items():
        if requested not in made:
            found[name] = _plus(found[name], made=spent)
    return found


def counted_alone(problems: Iterable[ProblemHistory]) -> AnswerCounts:
    """Return what a run without shared answers needed, which is also what it made."""
    found = AnswerCounts()
    for problem in problems:
        found = _plus(found, failed=_failures(problem))
        for call in problem.calls.values():
            if isinstance(call.outcome, events.CallGenerated | events.CallScored):
                found = _plus(found, _spent(call.outcome.cost), _spent(call.outcome.cost))
    return found


def _plus(
    counts: AnswerCounts, needed: Spent = NOTHING_SPENT, made: Spent = NOTHING_SPENT, failed: int = 0
) -> AnswerCounts:
    return AnswerCounts(counts.needed + needed, counts.made + made, counts.failed + failed)


def _spent(cost: Usage) -> Spent:
    return Spent(1, cost.prompt_tokens, cost.completion_tokens)


def _failures(problem: ProblemHistory) -> int:
    return sum(isinstance(call.outcome, events.CallFailed) for call in problem.calls.values())


def _generation(
    problem: ProblemHistory, call: CallHistory, message: events.Event, before: Transcript
) -> GenerationRequest:
    task, (name, _), role = problem.task, problem.key, "draft" if call.model == "draft" else "target"
    step, sample = message.step or 0, call.parsed.index
    if role == "target":
        sample %= task.sampling.target_samples
    cause = message.payload
    max_tokens = cause.max_tokens if isinstance(cause, events.DraftStepEvent | events.EscalateStepEvent) else 0
    confidence, top_logprobs = task.policy.get("confidence") if role == "draft" else None, task.top_logprobs
    if isinstance(cause, events.GlimpseStepEvent):
        max_tokens, confidence, top_logprobs = 1, "first", None
    return GenerationRequest(
        problem=name,
        step=step,
        sample=sample,
        author=role,
        transcript=before,
        separator=task.separator,
        max_tokens=max_tokens,
        temperature=task.sampling.temperature,
        top_p=task.sampling.top_p,
        seed=step_seed(task.seed, name, step, role, sample),
        confidence=confidence,
        target=problem.target_of(call),
        presence_penalty=task.sampling.presence_penalty,
        frequency_penalty=task.sampling.frequency_penalty,
        top_logprobs=top_logprobs,
        token_exact=task.token_exact,
    )


def _whole(made: events.CallGenerated) -> Generation:
    """Return the answer of a request as its model gave it: with all of its calls, which the ring divides again."""
    first = as_generation(made)
    if not made.all_calls or not made.following:
        return first
    return msgspec.structs.replace(
        first,
        calls=made.all_calls,
        stop_reason=made.following[-1].stop_reason,
        usage=sum((step.usage for step in made.following), made.usage),
        valid=None,
        violation=None,
    )


def _score(problem: ProblemHistory, call: CallHistory, message: events.Event, before: Transcript) -> ScoreRequest:
    index, is_audit = call.parsed.index, call.model == "audit"
    is_draft = isinstance(message.payload, events.StepDraftedEvent) or (is_audit and index == 0)
    written = _written(call.parsed.message.step, is_draft, 0 if is_audit else index)
    made = problem.calls[written].outcome
    return ScoreRequest(
        problem=problem.key[0],
        step=message.step or 0,
        score_kind=call.model if call.model == "router" or call.model == "judge" else "prm",
        transcript=before,
        candidate=made.text if isinstance(made, events.CallGenerated) else "",
        token_ids=made.token_ids if isinstance(made, events.CallGenerated) else (),
        author="draft" if is_draft else "target",
        separator=problem.task.separator,
    )


def _written(step: StepId, is_draft: bool, sample: int) -> str:
    """Return the id of the request that produced a candidate."""
    if is_draft:
        return str(CallId(MessageId(step, "draft_step"), "draft", 0))
    return str(CallId(MessageId(step, "escalate_step"), "target", sample))
