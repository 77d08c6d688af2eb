"""Break the time of a step down into waiting, drafting, scoring and the target."""

from collections.abc import Callable, Iterable

from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.protocols import events
from arbiter.protocols.records import Model, Record

_REQUESTS = events.GlimpseStepEvent | events.DraftStepEvent | events.EscalateStepEvent


class StepTimes(Record, frozen=True):
    """The seconds from the message that requested a step to the message that kept it (``total``), and their parts.

    ``queue`` was spent waiting for a slot at a busy model, or for other escalations (``gather``). ``draft``, ``score``
    and ``target`` were spent waiting for answers. Requests for the same message run concurrently, so only the longest
    counts. If draft and target are called concurrently (oracle, generate), the parts overlap and their sum exceeds
    ``total``.
    """

    total: float
    queue: float
    draft: float
    score: float
    target: float


def step_times(problem: ProblemHistory, step: int) -> StepTimes | None:
    """Return the times of a step; None if it was not kept, or if the log lacks the messages to compute them."""
    messages = [message for message in problem.messages.values() if message.step == step]
    requested = [message.mono for message in messages if isinstance(message.payload, _REQUESTS)]
    kept = [m.mono for m in messages if m.to == "assembler" and isinstance(m.payload, events.StepKeptEvent)]
    if not requested or not kept:
        return None
    calls_of_step = (call for call in problem.calls.values() if call.started is not None and call.started.step == step)
    calls = [call for call in calls_of_step if not call.is_ahead]

    def taken(*models: Model) -> float:
        return _longest_each((call for call in calls if call.model in models), seconds_taken)

    return StepTimes(
        total=round(kept[0] - requested[0], 6),
        queue=_longest_each(
            (call for call in calls if call.model != "audit"), lambda call: seconds_waited(problem, call)
        ),
        draft=round(taken("draft") + _waited_for_ahead(problem, step), 6),
        score=taken("prm", "router", "judge"),
        target=taken("target"),
    )


def seconds_taken(call: CallHistory) -> float:
    """Return the seconds from the request to its outcome; 0 if it has no outcome."""
    return 0.0 if call.outcome is None else call.outcome.seconds


def seconds_waited(problem: ProblemHistory, call: CallHistory) -> float:
    """Return the seconds from the message that caused the request until the request was made.

    They were spent waiting for other escalations, for a slot at the model, or for the log. A draft that is written
    ahead counts as 0: nothing waits for it.
    """
    if call.is_ahead or call.started is None or call.started.cause not in problem.messages:
        return 0.0
    return max(0.0, call.started.mono - problem.messages[call.started.cause].mono)


def _waited_for_ahead(problem: ProblemHistory, step: int) -> float:
    """Return the seconds from the message that requested a step until its draft, begun ahead, was available."""
    drafts = (event for event in problem.reused.values() if isinstance(event.payload, events.Predrafted))
    used = (event for event in drafts if event.step == step and event.cause in problem.messages)
    return sum(event.mono - problem.messages[event.cause or ""].mono for event in used)


def _longest_each(calls: Iterable[CallHistory], seconds: Callable[[CallHistory], float]) -> float:
    """Return the longest time among the requests of each message, summed over the messages."""
    longest: dict[str | None, float] = {}
    for call in calls:
        cause = call.started and call.started.cause
        longest[cause] = max(longest.get(cause, 0.0), seconds(call))
    return round(sum(longest.values()), 6)
