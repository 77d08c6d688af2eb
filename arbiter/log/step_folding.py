"""Rebuild the records of a problem's steps from its events, one event at a time.

``ProblemHistory`` folds the events of a log, ``LiveProblem`` those of a running ring.
"""

from typing import NamedTuple

import msgspec

from arbiter.actors.step_records import chosen_record, drafted_record, regenerated_record, same_score_for_same_text
from arbiter.protocols import events
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Event
from arbiter.protocols.ids import CallId
from arbiter.protocols.records import Author, Candidate, Glimpse, Rating, StepRecord, StopReason, Usage

_ASSEMBLER = "assembler"
_SEPARATOR: StopReason = "separator"


def parsed_call(name: str, event: Event) -> CallId:
    """Return the call id ``name`` of ``event``, parsed. Raises ``RunError`` naming the line if it is not valid."""
    try:
        return CallId.parse(name)
    except ValueError as error:
        raise RunError(f"the log is damaged in line {event.seq + 1}: {error}") from error


class FoldedStep(NamedTuple):
    """A step that ``message`` sends to the Assembler. It is kept unless the problem ends first.

    ``record`` has no audit: audits are scored after the step. ``is_written`` is False if no request wrote the kept
    candidate, which a replacement actor can cause; ``record`` then has an empty candidate instead.
    """

    message: Event
    record: StepRecord
    is_written: bool

    @property
    def number(self) -> int:
        return self.message.step or 0


class StepFolder:
    """Fold the events of one sample of a problem; ``samples`` is its task's ``target_samples``.

    It holds the requests in flight, the candidates of the open step, and the drafts written ahead of it. A candidate is
    dropped once it is in a record, or can no longer be in one.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._last = -1
        self._open: dict[int, _OpenStep] = {}
        self._ahead: dict[tuple[str, int], tuple[int, Candidate]] = {}
        self._blocks: dict[str, events.CallScored] = {}
        self._requested: dict[str, events.CallStarted] = {}

    def add(self, event: Event, call: CallId | None = None) -> FoldedStep | None:
        """Add an event. Return the step that it sends to the Assembler, or None if it sends none.

        ``call`` is the id of the request that the event answers, if the caller has parsed it already.

        Raises ``RunError`` naming the line if the event answers a request whose id is not valid.
        """
        match event.payload:
            case events.CallStarted():
                self._requested[event.id] = event.payload
            case events.CallGenerated() | events.CallScored() | events.CallFailed() | events.CallCancelled():
                self._answered(event, event.payload, call)
            case events.StepDraftedEvent() | events.StepRegeneratedEvent() | events.StepAcceptedEvent():
                return self._kept(event, event.payload) if event.to == _ASSEMBLER else None
            case events.GlimpseStepEvent(author=author):
                self._step(event.step or 0).glimpsing = author
            case events.EscalateStepEvent(rejects=rejects, target=target):
                self._escalated(event, rejects, target)
            case events.Predrafted(call=name, index=index):
                self._reused(event, name, index)
            case events.Prescored(call=name, index=index):
                self._prescored(event, name, index)
            case _:
                pass
        return None

    def _answered(self, event: Event, outcome: events.Outcome, call: CallId | None) -> None:
        started = self._requested.pop(event.cause or "", None)
        match outcome:
            case events.CallGenerated():
                self._generated(event, started, call, outcome)
            case events.CallScored():
                if started is None or started.model != "audit":
                    self._scored(event, call or parsed_call(event.cause or "", event), outcome)
            case _:
                pass

    def _generated(
        self, event: Event, started: events.CallStarted | None, call: CallId | None, made: events.CallGenerated
    ) -> None:
        name = event.cause or ""
        request = started or call or parsed_call(name, event)  # a log of decisions has only the request's id
        is_draft = request.model == "draft"
        number = (event.step or 0) + (request.index if is_draft else 0)
        if number <= self._last:
            return
        if number in self._open and self._open[number].glimpsed(made):
            return
        for index in range(1, len(made.following) + 1):
            self._ahead[name, index] = number + index, _candidate("draft", made.at(index))
        if is_draft and request.index:
            self._ahead[name, 0] = number, _candidate("draft", made)
        elif is_draft:
            self._step(number).draft = _candidate("draft", made)
        else:
            step = self._step(number)
            target = step.target if started is None else started.target
            step.targets[request.index] = _candidate("target", made, request.index % self._samples, target)

    def _scored(self, event: Event, call: CallId, score: events.CallScored) -> None:
        if call.is_block:
            self._blocks = {event.cause or "": score}
            return
        step = self._open.get(event.step or 0)
        if step is not None and call.model != "audit":
            step.rate("draft" if call.message.kind == "step_drafted" else "target", call.index, _rating(score))

    def _reused(self, event: Event, call: str, index: int) -> None:
        _, draft = self._ahead.pop((call, index), (0, None))
        if draft is not None:
            self._step(event.step or 0).draft = draft

    def _prescored(self, event: Event, call: str, index: int) -> None:
        score = self._blocks.get(call)
        if score is not None and index <= len(score.following):
            self._step(event.step or 0).rate("draft", 0, _rating(score.at(index)))

    def _escalated(self, event: Event, rejects: bool, target: str) -> None:
        step = self._step(event.step or 0)
        step.rejects, step.target = rejects, target

    def _kept(self, event: Event, payload: events.StepKeptEvent) -> FoldedStep | None:
        number = event.step or 0
        if number <= self._last:
            return None
        self._last = number
        step = self._open.get(number) or _OpenStep()
        self._open = {later: one for later, one in self._open.items() if later > number}
        self._ahead = {name: one for name, one in self._ahead.items() if one[0] > number}
        is_written = step.ensure_written(payload)
        return FoldedStep(event, step.record(payload), is_written)

    def _step(self, number: int) -> "_OpenStep":
        step = self._open.get(number)
        if step is None:
            step = self._open[number] = _OpenStep()
        return step


class _OpenStep:
    """The candidates of a step that is not kept yet, and the ``rejects`` and ``target`` of its ``EscalateStep``.

    ``glimpsing`` is the author of a glimpse that is requested and not answered yet.
    """

    __slots__ = ("draft", "glimpse", "glimpsing", "rejects", "target", "targets")

    def __init__(self) -> None:
        self.draft: Candidate | None = None
        self.targets: dict[int, Candidate] = {}
        self.rejects = False
        self.target = ""
        self.glimpsing: Author | None = None
        self.glimpse: Glimpse | None = None

    def glimpsed(self, made: events.CallGenerated) -> bool:
        """Take ``made`` as the glimpse that the step waits for. Return False if it waits for none."""
        author, self.glimpsing = self.glimpsing, None
        if author is None:
            return False
        self.glimpse = Glimpse(author, made.confidence or 0.0, made.usage, made.seconds)
        return True

    def rate(self, author: Author, index: int, rating: Rating) -> None:
        if author == "draft" and self.draft is not None:
            self.draft = msgspec.structs.replace(self.draft, rating=rating)
        elif author == "target" and index in self.targets:
            self.targets[index] = msgspec.structs.replace(self.targets[index], rating=rating)

    def ensure_written(self, payload: events.StepKeptEvent) -> bool:
        """Return whether a request wrote what ``payload`` keeps. If none did, add an empty candidate for it."""
        if isinstance(payload, events.StepRegeneratedEvent) or (
            isinstance(payload, events.StepAcceptedEvent) and payload.verdict != "keep_draft"
        ):
            is_written = bool(self.targets)
            self.targets = self.targets or {0: _empty("target")}
        else:
            is_written = self.draft is not None
            self.draft = self.draft or _empty("draft")
        return is_written

    def record(self, payload: events.StepKeptEvent) -> StepRecord:
        draft, targets = self.draft, tuple(self.targets[index] for index in sorted(self.targets))
        match payload:
            case events.StepAcceptedEvent(verdict=verdict):
                if draft is not None:
                    targets = tuple(same_score_for_same_text(draft, target) for target in targets)
                return chosen_record(verdict, draft, targets)
            case events.StepRegeneratedEvent():
                return regenerated_record(draft if self.rejects else None, targets, self.glimpse)
            case events.StepDraftedEvent():
                return drafted_record(draft or _empty("draft"), self.glimpse)


def _rating(score: events.CallScored) -> Rating:
    return Rating(score.value, score.usage, score.seconds, score.estimates)


def _candidate(author: Author, made: events.CallGenerated, sample: int = 0, target: str = "") -> Candidate:
    return Candidate(
        author,
        made.text,
        made.stop_reason,
        made.usage,
        made.seconds,
        sample,
        prefix_match=made.prefix_match,
        confidence=made.confidence,
        target=target,
        gathered=made.gathered,
        calls=made.calls,
        valid=made.valid,
        violation=made.violation,
        tokens=made.tokens,
        token_ids=made.token_ids,
        overrun=made.overrun,
    )


def _empty(author: Author) -> Candidate:
    return Candidate(author, "", _SEPARATOR, Usage(), 0.0)
