"""Another threshold, without a replay: what is said of each problem is what a replay finds."""

from collections.abc import Callable

import pytest

from arbiter.actors.glimpses import GlimpsedEscalation
from arbiter.actors.pacing import PacedRouter
from arbiter.actors.policies import (
    ConfidenceThreshold,
    JudgeThreshold,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
)
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.config.config import Config, parse
from arbiter.log.history import Key
from arbiter.log.run import Run
from arbiter.protocols.policy import Policy
from arbiter.protocols.records import Target
from arbiter.replay.threshold_changes import evidence_of, first_change, is_local, recorded_decisions
from arbiter.replay.whatif import what_if

THRESHOLDS = (0.0, 0.1, 0.35, 0.5, 0.65, 0.9, 1.0)
POLICIES: list[tuple[str, Callable[[float], Policy]]] = [
    ("rsd", RewardThreshold),
    ("router", LearnedRouter),
    ("judge", JudgeThreshold),
    ("confidence", ConfidenceThreshold),
    ("glimpse", GlimpsedEscalation),
    ("random", RandomEscalation),
    ("oracle", lambda threshold: Oracle(threshold - 0.5)),
]


def config(run_type: str) -> Config:
    table = {"backend": "transformers", "model": "m", "prompt": "plain"}
    return parse(
        {"models": dict.fromkeys(("draft", "target", "prm", "router", "judge"), table), "run_type": run_type}, "t"
    )


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(("name", "policy"), POLICIES, ids=[name for name, _ in POLICIES])
def test_a_replay_finds_what_is_said_of_each_problem(
    a_recording: Callable[..., Run], name: str, policy: Callable[[float], Policy], seed: int
) -> None:
    run = a_recording(seed, policy(0.5))
    recorded = {problem.key: recorded_decisions(problem) for problem in run.problems() if problem.end is not None}
    before = config(name)
    for threshold in THRESHOLDS:
        now = before.with_threshold(threshold - 0.5 if name == "oracle" else threshold)
        found = what_if(run, before, now, {})
        left = {(one.problem, one.sample): (one.step, one.model) for one in found.left}
        changes = {key: first_change(now.policy(), evidence_of(one)) for key, one in recorded.items() if one.is_whole}
        said: dict[Key, tuple[int, str]] = {
            key: (change.step, change.model) for key, change in changes.items() if change and change.outcome == "left"
        }
        assert {key: where for key, where in left.items() if key in changes} == said


def test_a_budget_a_choice_of_targets_or_the_history_makes_decisions_depend_on_more_than_their_step() -> None:
    assert is_local(RewardThreshold(0.5))
    assert not is_local(RewardThreshold(0.5, budget=0.2))
    assert not is_local(LearnedRouter(0.5, (Target("small"), Target("large"))))
    assert is_local(TriggeredEscalation(0.9))
    assert not is_local(TriggeredEscalation(0.9, words=("wait",)))
    assert not is_local(PacedRouter(0.5, 100))
