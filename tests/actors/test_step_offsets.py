"""Thresholds by position: which threshold holds at which step, and that policies decide by it."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.policies import ConfidenceThreshold, JudgeThreshold, LearnedRouter, RewardThreshold
from arbiter.actors.step_offsets import threshold_at
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.records import Candidate, Rating, Target, Usage

Offsets = tuple[float, ...]


def evidence(score: float, step: int, estimates: tuple[float, ...] = ()) -> Evidence:
    rating = Rating(score, Usage(), 1.0, estimates=estimates)
    draft = Candidate("draft", "a step", "separator", Usage(), 1.0, rating=rating, confidence=score)
    return Evidence("p", step, 0, draft)


@pytest.mark.parametrize(
    ("offsets", "thresholds"),
    [((), [0.5, 0.5, 0.5]), ((0.25,), [0.75, 0.75, 0.75]), ((-0.5, 0.25), [0.0, 0.75, 0.75])],
)
def test_each_step_has_its_offset_and_the_last_one_stays(offsets: Offsets, thresholds: list[float]) -> None:
    assert [threshold_at(0.5, offsets, step) for step in range(3)] == thresholds


POLICIES: list[Callable[[float, Offsets], Policy]] = [
    lambda tau, offsets: LearnedRouter(tau, (), None, offsets),
    lambda tau, offsets: RewardThreshold(tau, None, offsets),
    lambda tau, offsets: ConfidenceThreshold(tau, "mean", None, offsets),
    lambda tau, offsets: JudgeThreshold(tau, None, offsets),
]


@given(
    st.sampled_from(POLICIES),
    st.integers(0, 8).map(lambda number: number / 8),
    st.lists(st.integers(-8, 8).map(lambda number: number / 8), max_size=4).map(tuple),
    st.integers(0, 6),
    st.integers(0, 8).map(lambda number: number / 8),
)
def test_a_policy_decides_as_one_with_the_threshold_of_the_step(
    policy: Callable[[float, Offsets], Policy], tau: float, offsets: Offsets, step: int, score: float
) -> None:
    plain = policy(threshold_at(tau, offsets, step), ())
    assert policy(tau, offsets).decide(evidence(score, step)) == plain.decide(evidence(score, step))


def test_of_several_targets_those_above_the_threshold_of_the_step_can_be_called() -> None:
    targets = (Target("small", 1.0), Target("large", 4.0))
    policy = LearnedRouter(0.5, targets, None, (0.0, 0.2))
    assert policy.target(evidence(0.9, 0, (0.6, 0.9))) == "small"
    assert policy.target(evidence(0.9, 1, (0.6, 0.9))) == "large"
