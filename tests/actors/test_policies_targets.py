"""The rules with several targets: which one writes a step, and whose step is kept."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.policies import (
    GenerateRows,
    LearnedRouter,
    Oracle,
    TargetOnly,
    advantage,
    best_target,
    target_names,
)
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.records import Author, Candidate, Rating, Target, Usage


def candidate(author: Author, score: float | None, sample: int = 0) -> Candidate:
    rating = None if score is None else Rating(score, Usage(), 1.0)
    return Candidate(author, "a step", "separator", Usage(), 1.0, sample, rating)


def evidence(draft: float | None = None, *targets: float | None, step: int = 0, seed: int = 0) -> Evidence:
    written = tuple(candidate("target", score, sample) for sample, score in enumerate(targets))
    return Evidence(problem="p", step=step, seed=seed, draft=candidate("draft", draft), targets=written)


SEVERAL = (Target("small", 1.0), Target("large", 2.0), Target("twin", 2.0))


def estimated(*estimates: float) -> Evidence:
    draft = msgspec.structs.replace(candidate("draft", None), rating=Rating(max(estimates), Usage(), 1.0, estimates))
    return msgspec.structs.replace(evidence(), draft=draft)


@pytest.mark.parametrize(
    ("estimates", "target"),
    [
        ((0.5, 0.2, 0.5), None),  # equal to the threshold: none is above it
        ((0.6, 0.9, 0.1), "small"),  # 0.6 / 1 is more than 0.9 / 2
        ((0.51, 0.1, 0.1), "small"),
        ((0.4, 0.9, 0.1), "large"),  # a cheap target that is not above the threshold does not count
        ((0.4, 0.9, 0.95), "twin"),
        ((0.4, 0.9, 0.9), "large"),  # of equal ones, the first
        ((1.0, 1.0, 1.0), "small"),
    ],
)
def test_a_step_goes_to_the_target_above_the_threshold_that_promises_most_for_its_cost(
    estimates: tuple[float, ...], target: str | None
) -> None:
    policy, scored = LearnedRouter(0.5, SEVERAL), estimated(*estimates)
    assert policy.decide(scored) == ("keep_draft" if target is None else "escalate")
    if target is not None:
        assert policy.target(scored) == target


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3), st.floats(0.0, 1.0))
def test_a_step_is_kept_exactly_if_no_target_is_above_the_threshold(estimates: list[float], threshold: float) -> None:
    verdict = LearnedRouter(threshold, SEVERAL).decide(estimated(*estimates))
    assert (verdict == "escalate") == any(estimate > threshold for estimate in estimates)


def test_a_router_of_one_target_reads_its_score_and_names_it() -> None:
    assert LearnedRouter(0.5).target(evidence(0.9)) == ""
    assert LearnedRouter(0.5, SEVERAL[:1]).target(evidence(0.9)) == "small"


def test_a_router_with_another_number_of_estimates_than_targets_decides_nothing() -> None:
    with pytest.raises(ValueError, match="returned 2 estimates for 3 targets"):
        LearnedRouter(0.5, SEVERAL).target(estimated(0.9, 0.9))


def test_of_several_targets_the_best_first_sample_is_the_candidate_and_the_first_of_equals() -> None:
    scores = {"a": (0.4, 0.9), "b": (0.6, 0.1), "c": (0.6, 0.2)}
    written = tuple(
        msgspec.structs.replace(candidate("target", score), target=name, sample=sample)
        for name, each in scores.items()
        for sample, score in enumerate(each)
    )
    assert best_target(written).target == "b"
    scored = msgspec.structs.replace(evidence(0.5), targets=written)
    assert advantage(scored) == pytest.approx(0.1)
    policy = GenerateRows(targets=("a", "b", "c"))
    assert policy.decide(scored) == "keep_target"
    assert policy.decide(msgspec.structs.replace(scored, draft=candidate("draft", 0.6))) == "keep_draft"


def test_only_the_policies_that_choose_among_targets_name_them() -> None:
    others: list[Policy] = [Oracle(0.0), TargetOnly(), LearnedRouter(0.5), GenerateRows()]
    assert target_names(LearnedRouter(0.5, SEVERAL).targets) == ("small", "large", "twin")
    assert target_names(GenerateRows(targets=("a", "b")).targets) == ("a", "b")
    assert {target_names(policy.targets) for policy in others} == {()}
