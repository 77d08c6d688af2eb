"""Follow the problems in the ring, their steps and their requests, from the events of the ring as they happen.

The endpoint's metrics, live page and costs subclass ``EventFolder``. Only open problems are held in memory, each until
its end.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from arbiter.log.step_folding import StepFolder
from arbiter.protocols import events
from arbiter.protocols.events import Event
from arbiter.protocols.records import StepRecord

_ASSEMBLER = "assembler"


class LiveProblem:
    """A problem in the ring, or one of its samples. ``problem`` is its id, to which ``id`` adds the
    number of every sample but the first.

    ``calls`` are the requests in flight, by their ids. ``kept`` counts the kept steps. ``drafted`` counts the tokens
    that the draft has written, ``draft_kept`` those in kept steps. ``threshold`` is the last one that a budget set,
    None without a budget. ``doing`` describes what the problem is waiting for.
    """

    def __init__(self, name: str, task: events.StartProblemEvent, sample: int = 0) -> None:
        self.problem = name
        self.id = f"{name}#{sample}" if sample else name
        self.task = task
        self.calls: dict[str, events.CallStarted] = {}
        self.kept = 0
        self.drafted = 0
        self.draft_kept = 0
        self.threshold: float | None = None
        self.doing = "starting"
        self._step: int = -1
        self._requested_at = 0.0
        self._folder = StepFolder(task.sampling.target_samples)
        self._chosen: tuple[StepRecord, float] | None = None

    def fold(self, event: Event) -> None:
        """Add an event. A step that it sends to the Assembler is kept unless the problem ends first."""
        folded = self._folder.add(event)
        if folded is not None:
            self._chosen = folded.record, event.mono - self._requested_at

    def ask(self, event: Event) -> tuple[StepRecord, float] | None:
        """Handle the Assembler's request for a step, which makes the previous step final.

        Return the previous step and its seconds, as ``keep`` does; None if the same step was requested before.
        """
        step = event.step or 0
        if step == self._step:
            return None
        self._step, self._requested_at = step, event.mono
        return self.keep()

    def keep(self) -> tuple[StepRecord, float] | None:
        """Return the chosen step and the seconds that it took; None if there is none that was not returned before."""
        chosen, self._chosen = self._chosen, None
        if chosen is None:
            return None
        kept = chosen[0].kept
        self.kept += 1
        self.draft_kept += kept.usage.completion_tokens if kept.author == "draft" else 0
        return chosen


class EventFolder:
    """A hook that receives the events of an ``Arbiter`` and calls a method for what has happened.

    The methods do nothing here: subclasses override those that they need.

    No event reports that a client has abandoned its problem: the caller must call ``left``.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], LiveProblem] = {}

    def __call__(self, event: Event) -> None:
        if event.problem is None:
            return
        if isinstance(event.payload, events.StartProblemEvent):
            self._start(event.problem, event.sample, event.payload)
            return
        live = self._open.get((event.problem, event.sample))
        if live is None:  # events after a problem's end are ignored
            return
        live.fold(event)
        handler = self._HANDLERS.get(type(event.payload))
        if handler is not None:
            handler(self, live, event, event.payload)

    def left(self, problem: str, sample: int = 0) -> None:
        """Handle that the client has abandoned the problem. Does nothing unless the problem is in the ring."""
        live = self._open.pop((problem, sample), None)
        if live is not None:
            self._finish(live, None)

    @property
    def followed(self) -> int:
        """The number of problems that are followed: those in the ring."""
        return len(self._open)

    def started(self, live: LiveProblem) -> None:
        """Handle a problem that has entered the ring."""

    def call_started(self, call: events.CallStarted) -> None:
        """Handle a request that is sent to a model."""

    def call_retried(self, call: events.CallStarted, retried: events.CallRetried) -> None:
        """Handle a failed attempt of a request that is made again."""

    def call_ended(self, live: LiveProblem, call: events.CallStarted, outcome: events.Outcome) -> None:
        """Handle the outcome of a request. A request that is in flight when its problem ends counts as cancelled."""

    def reused(self) -> None:
        """Handle the use of a draft that was written ahead."""

    def kept(self, live: LiveProblem, step: StepRecord, seconds: float) -> None:
        """Handle a step that is final, ``seconds`` after it was requested."""

    def ended(self, live: LiveProblem, end: events.ProblemEnded | None) -> None:
        """Handle the end of a problem; ``end`` is None if its client abandoned it."""

    def _start(self, problem: str, sample: int, task: events.StartProblemEvent) -> None:
        self.left(problem, sample)  # ids in the ring are unique: an older problem of this id was abandoned
        live = self._open[problem, sample] = LiveProblem(problem, task, sample)
        self.started(live)

    def _end(self, live: LiveProblem, event: Event, payload: events.ProblemEnded) -> None:
        del self._open[event.problem or "", event.sample]
        if payload.steps > live.kept:
            self._keep(live, live.keep())
        self._finish(live, payload)

    def _finish(self, live: LiveProblem, end: events.ProblemEnded | None) -> None:
        for call in live.calls.values():
            self.call_ended(live, call, events.CallCancelled(0.0))
        self.ended(live, end)

    def _keep(self, live: LiveProblem, chosen: tuple[StepRecord, float] | None) -> None:
        if chosen is not None:
            self.kept(live, *chosen)

    def _glimpse(self, live: LiveProblem, event: Event, payload: events.GlimpseStepEvent) -> None:
        self._keep(live, live.ask(event))
        live.doing = "waiting for the first token"

    def _draft(self, live: LiveProblem, event: Event, payload: events.DraftStepEvent) -> None:
        self._keep(live, live.ask(event))
        live.threshold = live.threshold if payload.threshold is None else payload.threshold
        live.doing = "waiting for the draft"

    def _escalate(self, live: LiveProblem, event: Event, payload: events.EscalateStepEvent) -> None:
        if event.actor == _ASSEMBLER:
            self._keep(live, live.ask(event))
        live.threshold = payload.threshold
        live.doing = "waiting for the target"

    def _accept(self, live: LiveProblem, event: Event, payload: events.StepAcceptedEvent) -> None:
        live.threshold = payload.threshold

    def _ask(self, live: LiveProblem, event: Event, payload: events.CallStarted) -> None:
        live.calls[event.id] = payload
        if not is_ahead(payload) and payload.model != "audit":
            live.doing = f"the {payload.model} is {'writing' if payload.model in ('draft', 'target') else 'scoring'}"
        self.call_started(payload)

    def _retry(self, live: LiveProblem, event: Event, payload: events.CallRetried) -> None:
        call = live.calls.get(event.cause or "")
        if call is not None:
            self.call_retried(call, payload)

    def _answer(self, live: LiveProblem, event: Event, payload: events.Outcome) -> None:
        call = live.calls.pop(event.cause or "", None)
        if call is None:
            return
        if isinstance(payload, events.CallGenerated) and call.model == "draft":
            live.drafted += payload.cost.completion_tokens
        self.call_ended(live, call, payload)

    def _reuse(self, live: LiveProblem, event: Event, payload: events.Predrafted) -> None:
        live.doing = "using a draft written ahead"
        self.reused()

    _HANDLERS: ClassVar[dict[type[events.AnyPayload], Callable[["EventFolder", LiveProblem, Event, Any], None]]] = {
        events.GlimpseStepEvent: _glimpse,
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


def is_ahead(call: events.CallStarted) -> bool:
    """Return whether the request is a draft written ahead."""
    return call.model == "draft" and call.index > 0


def model_of(call: events.CallStarted) -> str:
    """Return the model that a request goes to, as its key below ``models.``, or ``audit`` for an audit.

    ``audit`` is explained at ``arbiter.protocols.records.Model``.
    """
    return f"targets.{call.target}" if call.target else call.model
