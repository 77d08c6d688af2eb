"""The data of the endpoint's live page: open problems, problems that ended last, models, and totals.

Memory is bounded: only the last steps of each problem and the beginning of each text are held.
"""

import time
from collections import deque
from itertools import islice
from typing import Any, get_args

import msgspec

from arbiter.gateway.model_health import ModelHealth
from arbiter.library.arbiter import Arbiter
from arbiter.log.live import EventFolder, LiveProblem, is_ahead
from arbiter.protocols import events
from arbiter.protocols.records import Author, Candidate, StepRecord, Usage, table_name

SHOWN = 40
"""The number of open problems that are shown, and of ended ones."""

STEPS = 30
"""The number of steps held per problem: the last ones."""

RECENT = 200
"""The number of kept steps that the recent acceptance rate covers."""

_QUESTION, _STEP, _REJECTED, _ERROR, _TAG, _TAGS = 300, 2000, 500, 300, 100, 10


class LiveState(EventFolder):
    """Follow the events of ``arbiter`` and keep the data of the live page, which ``contents`` returns."""

    def __init__(self, arbiter: Arbiter) -> None:
        super().__init__()
        self._arbiter = arbiter
        self._began = time.monotonic()
        self._shown: dict[str, _Shown] = {}
        self._past: deque[dict[str, Any]] = deque(maxlen=SHOWN)
        self._sums = _Sums()
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._tokens = dict.fromkeys(get_args(Author), Usage())
        self._health: dict[str, ModelHealth] = {}

    def contents(self) -> dict[str, Any]:
        """Return the live state, which can be encoded as JSON.

        Its keys are ``totals``, ``models``, ``open`` (the newest open problems), ``more`` (the number of other open
        problems) and ``ended`` (the problems that ended last). Both lists have the newest first.
        """
        now = time.monotonic()
        open_ones = [
            {**shown.render(), "seconds": round(now - shown.began, 3), "doing": shown.doing}
            for shown in islice(reversed(self._shown.values()), SHOWN)
        ]
        return {
            "totals": self._totals(now),
            "models": self._models(now),
            "open": open_ones,
            "more": self.followed - len(open_ones),
            "ended": list(reversed(self._past)),
        }

    def started(self, live: LiveProblem) -> None:
        self._shown[live.id] = _Shown(live, time.monotonic())

    def call_started(self, call: events.CallStarted) -> None:
        self._sums.predrafts += is_ahead(call)

    def call_retried(self, call: events.CallStarted, retried: events.CallRetried) -> None:
        self._health_of(call).retried_after(retried.error)

    def call_ended(self, live: LiveProblem, call: events.CallStarted, outcome: events.Outcome) -> None:
        match outcome:
            case events.CallCancelled():
                return
            case events.CallFailed(error=error):
                self._health_of(call).failed_with(error)
            case _:
                self._health_of(call).answered_after(outcome.seconds, time.monotonic())
                if call.model in self._tokens:
                    self._tokens[call.model] += outcome.cost

    def reused(self) -> None:
        self._sums.hits += 1

    def kept(self, live: LiveProblem, step: StepRecord, seconds: float) -> None:
        by_draft = step.kept.author == "draft"
        self._recent.append(by_draft)
        self._sums.steps += 1
        self._sums.accepted += by_draft
        self._shown[live.id].steps.append(_step(live.kept, step, seconds))

    def ended(self, live: LiveProblem, end: events.ProblemEnded | None) -> None:
        shown = self._shown.pop(live.id)
        seconds = time.monotonic() - shown.began if end is None else end.seconds
        self._sums.ended += 1
        self._sums.cancelled += end is None
        self._sums.failed += end is not None and end.finish_reason == "failed"
        finish = "cancelled" if end is None else end.finish_reason
        error = end.error[:_ERROR] if end and end.error else None
        self._past.append({**shown.render(), "seconds": round(seconds, 3), "finish_reason": finish, "error": error})

    def _totals(self, now: float) -> dict[str, Any]:
        sums, recent, arbiter = self._sums, self._recent, self._arbiter
        return {
            **msgspec.structs.asdict(sums),
            "seconds": round(now - self._began, 1),
            "accepting": arbiter.is_open,
            "running": arbiter.running,
            "waiting": arbiter.waiting,
            "room": arbiter.config.limits.problems,
            "acceptance": _share(sums.accepted, sums.steps),
            "recent_acceptance": _share(sum(recent), len(recent)),
            "recent": "".join("d" if by_draft else "t" for by_draft in recent),
            "tokens": {role: msgspec.structs.asdict(usage) for role, usage in self._tokens.items()},
        }

    def _models(self, now: float) -> list[dict[str, Any]]:
        slots = self._arbiter.occupancy
        models = self._arbiter.config.models
        tables = models.configured()
        if models.targets:  # a policy that knows a single target calls the first
            tables["target"] = next(iter(models.targets.values()))
        return [
            self._health.get(name, ModelHealth()).to_dict(name, tables.get(name), slots[name], now)
            for name in sorted(slots, key=_writers_first)
        ]

    def _health_of(self, call: events.CallStarted) -> ModelHealth:
        name = table_name(call.model, call.target)
        return self._health.setdefault(name, ModelHealth())


def _writers_first(name: str) -> tuple[bool, bool, str]:
    return not name.startswith(("draft", "target")), name != "draft", name


class _Sums(msgspec.Struct):
    """Totals over all problems. ``accepted`` counts the kept steps that the draft wrote."""

    ended: int = 0
    failed: int = 0
    cancelled: int = 0
    steps: int = 0
    accepted: int = 0
    predrafts: int = 0
    hits: int = 0


class _Shown:
    """An open problem, as the page shows it."""

    def __init__(self, live: LiveProblem, began: float) -> None:
        self.began = began
        self.steps: deque[dict[str, Any]] = deque(maxlen=STEPS)
        self._live = live

    @property
    def doing(self) -> str:
        """What the problem is waiting for."""
        return self._live.doing

    def render(self) -> dict[str, Any]:
        live, task = self._live, self._live.task
        configured = task.policy.get("threshold", task.policy.get("probability"))
        return {
            "id": live.id,
            "question": _cut(task.question, _QUESTION),
            "tags": {name[:_TAG]: text[:_TAG] for name, text in islice(task.tags.items(), _TAGS)},
            "policy": task.policy["type"],
            "threshold": configured if live.threshold is None else live.threshold,
            "before": live.kept - len(self.steps),
            "steps": list(self.steps),
        }


def _step(number: int, step: StepRecord, seconds: float) -> dict[str, Any]:
    """Return a step as the page shows it; ``rejected`` is the draft's text if the kept step has another author."""
    draft, kept = step.draft, step.kept
    judged = draft or kept
    return {
        "number": number,
        "author": kept.author,
        "target": kept.target or None,
        "text": _cut(kept.text, _STEP),
        "tokens": kept.usage.completion_tokens,
        "score": judged.score,
        "verdict": step.verdict,
        "seconds": round(seconds, 3),
        "rejected": None if draft is None or kept.author == "draft" else _rejected(draft),
    }


def _rejected(draft: Candidate) -> str:
    return _cut(draft.text, _REJECTED)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
