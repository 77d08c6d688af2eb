"""What goes on in the ring, put together from its events while they happen: problems, their steps, their requests.

``Metrics`` and ``Board`` follow it. Only what an open problem still needs is held: it is let go at its end.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from arbiter.log.step_folding import StepFolder
from arbiter.protocols import events
from arbiter.protocols.events import Event
from arbiter.protocols.records import StepRecord

_ASSEMBLER = "assembler"


class LiveProblem:
    """A problem in the ring; ``calls`` are its requests that have no outcome yet, by their ids.

    ``drafted`` are the tokens that the draft has written for it, ``draft_kept`` those of its kept steps. ``threshold``
    is where a budget has moved it, None where there is none.
    """

    def __init__(self, name: str, task: events.StartProblemEvent) -> None:
        self.id = name
        self.task = task
        self.calls: dict[str, events.CallStarted] = {}
        self.kept = 0
        self.drafted = 0
        self.draft_kept = 0
        self.threshold: float | None = None
        self.doing = "begins"
        self._step: int = -1
        self._asked_at = 0.0
        self._folder = StepFolder(task.sampling.target_samples)
        self._chosen: tuple[StepRecord, float] | None = None

    def fold(self, event: Event) -> None:
        """Take in an event. The step that it sends to the Assembler is kept unless the problem ends first."""
        folded = self._folder.add(event)
        if folded is not None:
            self._chosen = folded.record, event.mono - self._asked_at

    def ask(self, event: Event) -> tuple[StepRecord, float] | None:
        """The Assembler asks for a step. The one before is final by that, and returned the first time."""
        step = event.step or 0
        if step == self._step:
            return None
        self._step, self._asked_at = step, event.mono
        return self.keep()

    def keep(self) -> tuple[StepRecord, float] | None:
        """The chosen step, and the seconds that it took, if there is one that was not told before."""
        chosen, self._chosen = self._chosen, None
        if chosen is None:
            return None
        kept = chosen[0].kept
        self.kept += 1
        self.draft_kept += kept.usage.completion_tokens if kept.author == "draft" else 0
        return chosen


class EventFolder(ABC):
    """A hook: called with the events of an ``Arbiter``, it tells its subclass what has happened.

    Of a problem that its client gives up there is no event; ``left`` says so.
    """

    def __init__(self) -> None:
        self._open: dict[str, LiveProblem] = {}

    def __call__(self, event: Event) -> None:
        if event.problem is None:
            return
        if isinstance(event.payload, events.StartProblemEvent):
            self._start(event.problem, event.payload)
            return
        live = self._open.get(event.problem)
        if live is None:  # what comes after a problem's end counts for nothing
            return
        live.fold(event)
        serve = self._SERVES.get(type(event.payload))
        if serve is not None:
            serve(self, live, event, event.payload)

    def left(self, problem: str) -> None:
        """The problem was given up. Does nothing if it has ended before, or had not come into the ring."""
        live = self._open.pop(problem, None)
        if live is not None:
            self._over(live, None)

    @property
    def followed(self) -> int:
        """Problems in the ring, of which something is held."""
        return len(self._open)

    @abstractmethod
    def started(self, live: LiveProblem) -> None:
        """A problem has come into the ring."""

    @abstractmethod
    def asked(self, asked: events.CallStarted) -> None:
        """A request goes to a model."""

    @abstractmethod
    def retried(self, asked: events.CallStarted, retried: events.CallRetried) -> None:
        """It is made again."""

    @abstractmethod
    def answered(self, asked: events.CallStarted, outcome: events.Outcome) -> None:
        """It has ended, in whatever way; with its problem at the latest."""

    @abstractmethod
    def reused(self) -> None:
        """A draft that was written ahead is used."""

    @abstractmethod
    def kept(self, live: LiveProblem, step: StepRecord, seconds: float) -> None:
        """A step is final, so many seconds after it was asked for."""

    @abstractmethod
    def ended(self, live: LiveProblem, end: events.ProblemEnded | None) -> None:
        """A problem has ended; None if its client gave it up."""

    def _start(self, problem: str, task: events.StartProblemEvent) -> None:
        self.left(problem)  # as no two of the same id are in the ring, an older one was given up
        live = self._open[problem] = LiveProblem(problem, task)
        self.started(live)

    def _end(self, live: LiveProblem, event: Event, payload: events.ProblemEnded) -> None:
        del self._open[live.id]
        if payload.steps > live.kept:
            self._keep(live, live.keep())
        self._over(live, payload)

    def _over(self, live: LiveProblem, end: events.ProblemEnded | None) -> None:
        for asked in live.calls.values():
            self.answered(asked, events.CallCancelled(0.0))
        self.ended(live, end)

    def _keep(self, live: LiveProblem, chosen: tuple[StepRecord, float] | None) -> None:
        if chosen is not None:
            self.kept(live, *chosen)

    def _draft(self, live: LiveProblem, event: Event, payload: events.DraftStepEvent) -> None:
        self._keep(live, live.ask(event))
        live.doing = "waits for the draft"

    def _escalate(self, live: LiveProblem, event: Event, payload: events.EscalateStepEvent) -> None:
        if event.actor == _ASSEMBLER:
            self._keep(live, live.ask(event))
        live.threshold = payload.threshold
        live.doing = "waits for the target"

    def _accept(self, live: LiveProblem, event: Event, payload: events.StepAcceptedEvent) -> None:
        live.threshold = payload.threshold

    def _ask(self, live: LiveProblem, event: Event, payload: events.CallStarted) -> None:
        live.calls[event.id] = payload
        if not is_ahead(payload) and payload.model != "audit":
            live.doing = f"the {payload.model} {'writes' if payload.model in ('draft', 'target') else 'scores'}"
        self.asked(payload)

    def _retry(self, live: LiveProblem, event: Event, payload: events.CallRetried) -> None:
        asked = live.calls.get(event.cause or "")
        if asked is not None:
            self.retried(asked, payload)

    def _answer(self, live: LiveProblem, event: Event, payload: events.Outcome) -> None:
        asked = live.calls.pop(event.cause or "", None)
        if asked is None:
            return
        if isinstance(payload, events.CallGenerated) and asked.model == "draft":
            live.drafted += payload.cost.completion_tokens
        self.answered(asked, payload)

    def _reuse(self, live: LiveProblem, event: Event, payload: events.Predrafted) -> None:
        live.doing = "has its draft from before"
        self.reused()

    _SERVES: ClassVar[dict[type[events.AnyPayload], Callable[["EventFolder", LiveProblem, Event, Any], None]]] = {
        events.DraftStepEvent: _draft,
        events.EscalateStepEvent: _escalate,
        events.StepAcceptedEvent: _accept,
        events.CallStarted: _ask,
        events.CallRetried: _retry,
        events.CallGenerated: _answer,
        events.CallScored: _answer,
        events.CallFailed: _answer,
        events.CallCancelled: _answer,
        events.Predrafted: _reuse,
        events.ProblemEnded: _end,
    }


def is_ahead(asked: events.CallStarted) -> bool:
    """Whether nobody waits for the answer yet: a draft that is written ahead."""
    return asked.model == "draft" and asked.index > 0


def model_of(asked: events.CallStarted) -> str:
    """Whom a request goes to, by its key behind ``models.``; ``audit`` as in ``arbiter.protocols.records.Model``."""
    return f"targets.{asked.target}" if asked.target else asked.model
