"""What a run would have been with another threshold, as ``arbiter replay --threshold`` says, fast enough for a slider.

Most problems need no replay: their decisions are computed again from the recorded scores
(``arbiter.replay.threshold_changes``). Those that end with another candidate are replayed, each once. A run whose
decisions depend on more than the scores of their own step (a budget, a deadline, earlier steps) is replayed as a whole
for each threshold.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from arbiter.config.config import Config, load_config
from arbiter.config.run_tables import RunType
from arbiter.log.history import Key, histories
from arbiter.log.identity import check_unchanged
from arbiter.log.run import Run, grades_in
from arbiter.protocols.errors import ArbiterError, RequestError
from arbiter.protocols.policy import Policy
from arbiter.protocols.records import Model
from arbiter.replay.threshold_changes import Decided, RecordedDecisions, evidence_of, first_change, is_local
from arbiter.replay.whatif import replay_problems
from arbiter.view.index_figures import COUNTED, Counted, counted_result, figures
from arbiter.view.run_indexes import RunIndex
from arbiter.view.viewed_runs import shown

Json = dict[str, Any]

_RULES: dict[RunType, str] = {
    "rsd": "keep the draft if its process reward h ≥ τ",
    "router": "keep the draft if the router's estimate ŷ ≤ τ",
    "oracle": "keep the target's step if the advantage Δ > τ",
    "random": "escalate each step with probability τ",
    "confidence": "keep the draft if the draft model's confidence in it ≥ τ",
    "judge": "keep the draft if the judge's rating ≥ τ",
    "trigger": "escalate the draft if its confidence > τ, or if another trigger fires",
    "glimpse": "have the draft write the step if the confidence of its first token ≥ τ",
    "pomdp": "escalate the draft if that raises the probability of a right solution by more than τ",
    "paced": "escalate the draft if its risk > τ, where the allowance is used as planned",
}
_LISTED = 500
_RUNS = 2  # whose decisions are held in memory
_MOST_TOGETHER = 1000  # problems that are replayed together for each threshold: it takes seconds
_AT_ONCE = 100  # problems whose events are in memory at the same time
_REMEMBERED = 200_000  # answers

_READ = ("row", "decisions", "again_target_calls", "again_draft", "again_target")

_DECISIONS = msgspec.msgpack.Decoder(RecordedDecisions)


class Left(NamedTuple):
    """A problem that needs an answer of ``model`` at ``step``, which was not recorded."""

    step: int
    model: Model


Again = Left | Counted
"""What a problem would have been."""


class _Problem(NamedTuple):
    """A problem as it was recorded, and what it adds to the figures of a replay that changes nothing.

    ``decided`` are its decisions; None if only a replay can find out what changes.
    """

    row: int
    counted: Counted
    unchanged: Counted
    decided: list[Decided] | None


class ThresholdViews:
    """Answers for the runs that were looked at last. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: OrderedDict[Path, tuple[object, ThresholdView]] = OrderedDict()

    def about(self, index: RunIndex) -> Json:
        """Return whether there are answers for a run, and for which thresholds."""
        try:
            config = _config(index)
        except ArbiterError as error:
            named = dict.fromkeys(("run_type", "threshold", "least", "most", "rule"))
            return {"available": False, "reason": str(error), **named}
        return {
            "available": True,
            "reason": None,
            "run_type": config.run_type,
            "threshold": config.threshold,
            "least": -1.0 if config.run_type == "oracle" else 0.0,
            "most": 1.0,
            "rule": _RULES[config.run_type],
        }

    def at(self, index: RunIndex, threshold: float) -> Json:
        """Return what a run would have been with ``threshold``.

        Raises ``RequestError`` if the run has none to move, or if it is out of range. Raises ``RunError`` if its log is
        damaged.
        """
        with self._lock:
            known = self._views.get(index.log)
            if known is None or known[0] != (index.seen, index.rows):
                known = (index.seen, index.rows), ThresholdView(index, _config(index))
            self._views[index.log] = known
            self._views.move_to_end(index.log)
            while len(self._views) > _RUNS:
                self._views.popitem(last=False)
            return known[1].at(threshold)


class ThresholdView:
    """The decisions of one run, as its index has them."""

    def __init__(self, index: RunIndex, config: Config) -> None:
        self._run = Run.open(index.log)
        self._config = config
        self._is_local = _is_local(config)
        self._unfinished = 0
        self._problems: dict[Key, _Problem] = {}
        self._replayed: dict[_Case, Again] = {}
        for row, decisions, target_calls, draft, target, *values in index.rows.columns(*_READ, *COUNTED):
            counted = Counted(*values)
            if counted.grade == "unfinished":
                self._unfinished += 1
                continue
            unchanged = counted._replace(target_calls=target_calls, written_draft=draft, written_target=target)
            recorded = None if decisions is None or not self._is_local else _DECISIONS.decode(decisions)
            decided = evidence_of(recorded) if recorded is not None and recorded.is_whole else None
            self._problems[counted.id, counted.sample] = _Problem(row, counted, unchanged, decided)

    def at(self, threshold: float) -> Json:
        """Return what the run would have been with ``threshold``. Raises as ``ThresholdViews.at`` does."""
        try:
            config = self._config.with_threshold(threshold, "threshold")
        except ArbiterError as error:
            raise RequestError(str(error), code="bad_parameter") from error
        again = self._again(config, threshold)
        left = {key: one for key, one in again.items() if isinstance(one, Left)}
        exact = {key: one for key, one in again.items() if isinstance(one, Counted)}
        recorded = {key: self._problems[key].counted for key in exact}
        changed = [
            {**self._named(key), "before": recorded[key].grade, "after": one.grade}
            for key, one in exact.items()
            if one.grade != recorded[key].grade
        ]
        places = Counter(left.values())
        return {
            "threshold": threshold,
            "recorded_threshold": self._config.threshold,
            "exact": len(exact),
            "unfinished": self._unfinished,
            "left": {
                "total": len(left),
                "by": [{**place._asdict(), "problems": count} for place, count in sorted(places.items())],
                "problems": [{**self._named(key), **one._asdict()} for key, one in [*left.items()][:_LISTED]],
            },
            "recorded": _shown(self._config, recorded.values()),
            "replayed": _shown(config, exact.values()),
            "changed": changed[:_LISTED],
        }

    def _again(self, config: Config, threshold: float) -> dict[Key, Again]:
        """Return what each problem would have been."""
        policy = config.policy()
        cases = {key: self._case(policy, key, problem, threshold) for key, problem in self._problems.items()}
        missing = [case for case in cases.values() if isinstance(case, _Case) and case not in self._replayed]
        if missing:
            self._replay(config, missing)
        return {key: self._replayed[case] if isinstance(case, _Case) else case for key, case in cases.items()}

    def _case(self, policy: Policy, key: Key, problem: _Problem, threshold: float) -> "Again | _Case":
        """Return what a problem would have been, or the case in which a replay has to find out."""
        if problem.decided is None:
            return _Case(key, None, threshold)
        change = first_change(policy, problem.decided)
        if change is None:
            return problem.unchanged
        return Left(change.step, change.model) if change.outcome == "left" else _Case(key, change.step, None)

    def _replay(self, config: Config, cases: list["_Case"]) -> None:
        """Replay problems. Those whose decisions depend on others are replayed together, the others in parts."""
        if len(self._replayed) + len(cases) > _REMEMBERED:
            self._replayed.clear()  # answers of one threshold stay together
        part = _AT_ONCE if self._is_local else len(cases)
        for begin in range(0, len(cases), part):
            chosen = {case.key: case for case in cases[begin : begin + part]}
            events = [*self._run.events_of(*{problem for problem, _ in chosen})]
            ended = {one.key: one for one in histories(events) if one.key in chosen and one.end is not None}
            again = replay_problems(self._run, self._config, config, {}, [*ended.values()], grades_in(events))
            for one in again.left:
                self._replayed[chosen[one.problem, one.sample]] = Left(one.step, one.model)
            for result in again.replayed:
                self._replayed[chosen[result.solution.problem, result.solution.sample]] = counted_result(result)

    def _named(self, key: Key) -> Json:
        return {"row": self._problems[key].row, "id": key[0], "sample": key[1]}


class _Case(NamedTuple):
    """What a replay of a problem depends on: the step at which it changes, or the threshold itself."""

    key: Key
    step: int | None
    threshold: float | None


def _config(index: RunIndex) -> Config:
    """Return the configuration of a run whose threshold can be moved. Raises ``RequestError`` if it cannot."""
    run = Run.open(index.log)
    path = index.log.with_name("config.toml")
    if run.started.record == "decisions":
        raise _not_available("the log has decisions only (log.record), which leaves out the answers")
    if not path.is_file():
        raise _not_available(f"there is no {path.name} beside the log, which a replay needs")
    config = load_config(str(path))
    check_unchanged(path, config, run.started.identity)
    if config.threshold is None:
        raise _not_available(f"the run type {config.run_type!r} has no threshold")
    if not _is_local(config) and index.rows.count() > _MOST_TOGETHER:
        raise _not_available(
            "its decisions depend on more than the scores of their own step (a budget, an allowance, several targets, "
            "a deadline, or words of hesitation), so all problems have to be replayed for each threshold: "
            f"arbiter replay {shown(index.log.parent)} --threshold does it"
        )
    return config


def _is_local(config: Config) -> bool:
    return is_local(config.policy()) and config.limits.deadline is None


def _not_available(reason: str) -> RequestError:
    return RequestError(reason, status=409, code="not_available")


def _shown(config: Config, rows: Collection[Counted]) -> Json:
    found = figures(rows)
    names = [name for name in found if name not in ("ended", "graded", "failed")]
    return {"run_type": config.run_type, "threshold": config.threshold, **{name: found[name] for name in names}}
