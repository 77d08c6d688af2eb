"""Convert a problem into events for inspect_ai's viewer: one span per step, with its requests and the decision."""

from collections.abc import Iterator

from arbiter.exports.eval_tools import calls_of, offered
from arbiter.exports.eval_usage import EvalModels, Json, identifier, known, moment, usage_of
from arbiter.exports.files import safe_name
from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.log.time_order import time_of
from arbiter.protocols import events
from arbiter.protocols.events import Event
from arbiter.protocols.records import Author
from arbiter.protocols.tools import content_of

_STOP_REASONS = {"separator": "stop", "end": "stop", "limit": "max_tokens", "call": "tool_calls"}


class EvalTranscript:
    """The events of a problem.

    ``name`` is the sample's identifier, from which the identifiers of the events are computed. ``given`` is the number
    of messages before the first step; requests refer to them.
    """

    def __init__(self, history: ProblemHistory, models: EvalModels, name: str, given: int) -> None:
        self._history, self._models, self._name, self._given = history, models, name, given
        self._records = history.steps()
        used = ((event.payload, event.step) for event in history.reused.values())
        self._used_ahead = {
            payload.call: (step, payload.stale) for payload, step in used if isinstance(payload, events.Predrafted)
        }

    def events(self, shown: Json) -> list[Json]:
        """Return all events; ``shown`` has the sample's ``question``, ``target``, ``score``, ``limit``, ``error``."""
        return list(self._events(shown))

    def _events(self, shown: Json) -> Iterator[Json]:
        start, last = self._history.start, self._history.ended or _last(self._history)
        sample = {"id": safe_name(self._history.key[0]), "input": shown["question"], "target": shown["target"]}
        yield self._event("sample_init", start, "init", sample=sample, state={})
        steps: dict[int, list[CallHistory]] = {}
        for call in self._history.calls.values():
            steps.setdefault(self._step_of(call), []).append(call)
        for number in sorted(steps):
            yield from self._step(number, steps[number])
        if "error" in shown:
            yield self._event("error", last, "error", error=shown["error"])
        if limit := shown.get("limit"):
            yield self._event(
                "sample_limit", last, "limit", type=limit["type"], limit=limit["limit"], message=limit["reason"]
            )
        if "score" in shown:
            yield self._event("score", last, "score", score=shown["score"], target=shown["target"], scorer="arbiter")

    def _step(self, number: int, calls: list[CallHistory]) -> Iterator[Json]:
        record = self._records[number] if number < len(self._records) else None
        author = record and (record.kept.target or record.kept.author)
        name = f"step {number + 1}: {author}" if author else f"step {number + 1}"
        span = identifier(self._name, number)
        yield {**self._event("span_begin", _first(calls[0]), f"{number}/begin", id=span, name=name), "span_id": span}
        for call in calls:
            yield {**self._call(call, number), "span_id": span}
        last = max((call.ended or _first(call) for call in calls), key=time_of)
        if record is not None:
            decision = known(kept=author, verdict=record.verdict, threshold=self._threshold(number))
            yield {**self._event("info", last, f"{number}/kept", source="arbiter", data=decision), "span_id": span}
        yield {**self._event("span_end", last, f"{number}/end", id=span), "span_id": span}

    def _step_of(self, call: CallHistory) -> int:
        """Return the step whose span has the request; for a used draft written ahead, the step that used it."""
        step, _ = self._used_ahead.get(call.id, (_first(call).step, False))
        return step or 0

    def _threshold(self, number: int) -> float | None:
        """Return the threshold at the step: the policy's, unless a budget has changed it."""
        moved = self._history.thresholds().get(number)
        return self._history.task.policy.get("threshold") if moved is None else moved

    def _call(self, call: CallHistory, number: int) -> Json:
        match call.outcome:
            case events.CallScored(value=value):
                score = {"value": value, "explanation": f"the {call.model}'s score of the {_scored(call)}'s step"}
                return self._call_event(call, "score", score=score, scorer=call.model, intermediate=True)
            case _ if call.model in ("draft", "target"):
                return self._generation(call, number)
            case outcome:
                data = known(outcome=_ended(outcome), error=getattr(outcome, "error", None))
                return self._call_event(call, "info", source=call.model, data=data)

    def _generation(self, call: CallHistory, number: int) -> Json:
        outcome, model, ahead = call.outcome, self._models.called(self._history, call), self._ahead(call)
        answer, sampling = isinstance(outcome, events.CallGenerated), self._history.task.sampling
        cause = self._history.message_of(call)
        output: Json = {"model": model}
        if isinstance(outcome, events.CallGenerated):
            message = known(
                id=identifier(self._name, call.id),
                role="assistant",
                content=content_of(outcome.text, outcome.calls),
                tool_calls=calls_of(outcome.all_calls),
                source="generate",
            )
            ending = "tool_calls" if outcome.calls else _STOP_REASONS[outcome.stop_reason]
            choice = {"message": {**message, "model": model}, "stop_reason": ending}
            output |= {"choices": [choice], "usage": usage_of(outcome.cost), "time": outcome.seconds}
        return self._call_event(
            call,
            "model",
            model=model,
            role=call.model,
            input=[],
            input_refs=[(0, self._given + number)] if ahead in (None, "used") else None,  # else it read other steps
            **offered(self._history.task.rules),
            config=known(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=getattr(cause and cause.payload, "max_tokens", None),
            ),
            output=output,
            metadata=ahead and {"drafted_ahead": ahead},
            retries=len(call.retries) or None,
            error=getattr(outcome, "error", None) or (None if answer else _ended(outcome)),
            completed=call.ended and moment(call.ended.wall),
            working_time=outcome and outcome.seconds,
        )

    def _ahead(self, call: CallHistory) -> str | None:
        """Return the use of a draft written ahead: ``used``, ``unused``, or ``stale`` if its context had changed.

        Return None for another request.
        """
        if not call.is_ahead:
            return None
        _, stale = self._used_ahead.get(call.id, (None, None))
        return "unused" if stale is None else "stale" if stale else "used"

    def _call_event(self, call: CallHistory, kind: str, **fields: object) -> Json:
        first = _first(call)
        begun = 0.0 if call.started is not None or call.outcome is None else call.outcome.seconds
        return self._event(kind, first, call.id, begun, **fields)

    def _event(self, kind: str, event: Event, label: str, before: float = 0.0, **fields: object) -> Json:
        """Return an event ``before`` seconds before ``event``; ``label`` distinguishes it from others of ``event``."""
        return known(
            event=kind,
            uuid=identifier(self._name, label, event.id, event.seq),
            timestamp=moment(event.wall - before),
            working_start=max(0.0, round(event.mono - before - self._history.start.mono, 6)),
            **fields,
        )


def _scored(call: CallHistory) -> Author:
    """Return the author of the scored step: an audit's first request scores the draft, its second the target."""
    is_second = call.model == "audit" and call.parsed.index == 1
    return "target" if is_second or call.parsed.message.kind == "step_regenerated" else "draft"


def _ended(outcome: events.Outcome | None) -> str:
    match outcome:
        case None:
            return "unfinished at the end of the log"
        case events.CallCancelled():
            return "cancelled: the answer was no longer needed"
        case _:
            return "failed"


def _first(call: CallHistory) -> Event:
    first = call.started or call.ended or next(iter(call.retries), None)
    assert first is not None  # noqa: S101 - a call has at least its first event
    return first


def _last(history: ProblemHistory) -> Event:
    ends = (call.ended or _first(call) for call in history.calls.values())
    return max([*history.messages.values(), *ends], key=time_of)
