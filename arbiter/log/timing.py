"""Where the time of a step went."""

from collections.abc import Callable, Iterable

from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.protocols import events
from arbiter.protocols.records import Model, Record

_ASKING = events.DraftStepEvent | events.EscalateStepEvent


class StepTimes(Record, frozen=True):
    """Seconds from the message that asked for a step to the one that kept it (``total``), and their parts.

    ``queue`` was spent on waiting for room at busy models; ``draft``, ``score`` and ``target`` on their answers. Of
    calls for the same message, which are made at the same time, the longest counts. Where draft and target are asked
    at once (oracle, generate), the parts overlap, and are more than ``total`` together.
    """

    total: float
    queue: float
    draft: float
    score: float
    target: float


def step_times(problem: ProblemHistory, step: int) -> StepTimes | None:
    """The times of a step; None if it was not kept, or the log does not tell."""
    messages = [message for message in problem.messages.values() if message.step == step]
    asked = [message.mono for message in messages if isinstance(message.payload, _ASKING)]
    kept = [m.mono for m in messages if m.to == "assembler" and isinstance(m.payload, events.StepKeptEvent)]
    if not asked or not kept:
        return None
    asked_here = (call for call in problem.calls.values() if call.asked is not None and call.asked.step == step)
    calls = [call for call in asked_here if not call.is_ahead]

    def taken(*models: Model) -> float:
        return _longest_each((call for call in calls if call.model in models), seconds_taken)

    return StepTimes(
        total=round(kept[0] - asked[0], 6),
        queue=_longest_each(
            (call for call in calls if call.model != "audit"), lambda call: seconds_waited(problem, call)
        ),
        draft=round(taken("draft") + _waited_for_ahead(problem, step), 6),
        score=taken("prm", "router", "judge"),
        target=taken("target"),
    )


def seconds_taken(call: CallHistory) -> float:
    """From the request to its end; 0 if it has none."""
    return 0.0 if call.outcome is None else call.outcome.seconds


def seconds_waited(problem: ProblemHistory, call: CallHistory) -> float:
    """From the message that led to the call until it was made: for room at the model, and for the log.

    Nobody waits for a draft that is written ahead.
    """
    if call.is_ahead or call.asked is None or call.asked.cause not in problem.messages:
        return 0.0
    return max(0.0, call.asked.mono - problem.messages[call.asked.cause].mono)


def _waited_for_ahead(problem: ProblemHistory, step: int) -> float:
    """From the message that asked for a step until its draft, which was begun ahead, was there."""
    used = (event for event in problem.reused.values() if event.step == step and event.cause in problem.messages)
    return sum(event.mono - problem.messages[event.cause or ""].mono for event in used)


def _longest_each(calls: Iterable[CallHistory], seconds: Callable[[CallHistory], float]) -> float:
    """The longest of the calls of each message, added up over the messages."""
    longest: dict[str | None, float] = {}
    for call in calls:
        cause = call.asked and call.asked.cause
        longest[cause] = max(longest.get(cause, 0.0), seconds(call))
    return round(sum(longest.values()), 6)
