"""Thresholds at the quantiles of collected scores."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.policies import LearnedRouter, Oracle, RewardThreshold
from arbiter.config.config import Config, parse
from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.paper.planned_runs import (
    further_points,
    points,
    quantile_thresholds,
    with_learned_steps,
)
from arbiter.evaluation.scores import advantages
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.records import Author, Candidate, Rating, Usage

SHARES = st.lists(st.floats(0.05, 0.95), min_size=1, max_size=4)


def a_row(number: int, draft: float, target: float) -> TrainingRow:
    texts: dict[str, Any] = {"question": "q", "history": (), "draft": "d", "targets": ("t",)}
    return TrainingRow(
        problem=str(number), step=0, draft_score=draft, target_scores=(target,), confidence=1 - draft / 2, **texts
    )


def scored(author: Author, score: float) -> Candidate:
    rating = Rating(score, Usage(), 0.0)
    return Candidate(author=author, text="", stop_reason="separator", usage=Usage(), seconds=0.0, rating=rating)


def escalates(policy: Policy, draft: float, target: float) -> bool:
    evidence = Evidence("p", 0, 0, scored("draft", draft), (scored("target", target),))
    return policy.decide(evidence) != "keep_draft"


@given(
    st.lists(st.tuples(st.floats(0, 1, width=16), st.floats(0, 1, width=16), st.floats(0, 1, width=16)), min_size=1),
    SHARES,
)
def test_no_threshold_escalates_more_of_the_collected_steps_than_it_may(
    drawn: list[tuple[float, float, float]], accepted: list[float]
) -> None:
    rows = [a_row(number, draft, target) for number, (draft, target, _) in enumerate(drawn)]
    predicted = np.array([value for _, _, value in drawn])
    found = quantile_thresholds(rows, advantages(rows), predicted, accepted)
    most = 1 - min(accepted)
    for tau in found["rsd"]:
        assert np.mean([escalates(RewardThreshold(tau), row.draft_score, 0) for row in rows]) <= most + 1e-9
    for tau in found["router"]:
        assert np.mean([escalates(LearnedRouter(tau), value, 0) for value in predicted]) <= most + 1e-9
    for tau in found["oracle"]:
        assert np.mean([escalates(Oracle(tau), row.draft_score, row.target_scores[0]) for row in rows]) <= most + 1e-9


def test_rewards_that_are_nearly_zero_have_thresholds_of_their_own() -> None:
    rewards = [1e-20, 1e-18, 1e-12, 0.5, 0.9]
    rows = [a_row(number, reward, 1.0) for number, reward in enumerate(rewards)]
    found = quantile_thresholds(rows, advantages(rows), None, [0.4, 0.6, 0.8])["rsd"]
    escalated = [sum(reward < tau for reward in rewards) for tau in found]
    assert escalated == [1, 2, 3]


def test_the_runs_are_both_models_alone_and_each_threshold() -> None:
    model = {"model": "nowhere", "prompt": "{question}"}
    config: Config = parse({"models": dict.fromkeys(("draft", "target", "prm", "router"), model)}, "test")
    planned = points(config, {"rsd": [0.1, 0.9], "random": [0.5]})
    assert [point.name for point in planned] == ["draft", "target", "rsd-0.1", "rsd-0.9", "random-0.5"]


MODELS = {"models": {key: {"model": "nowhere", "prompt": "{question}"} for key in ("draft", "target")}}


def test_further_run_types_have_the_thresholds_that_are_given_and_else_stated_ones() -> None:
    config = parse(MODELS, "test")
    assert further_points(config, [], []) == []
    assert [one.name for one in further_points(config, ["glimpse"], ["glimpse=0.5"])] == ["glimpse-0.5"]
    both = further_points(config, ["glimpse", "pomdp"], ["glimpse=0.5"])
    assert both[0].name == "glimpse-0.5"
    assert len(both) > 3
    assert {one.name for one in further_points(config, ["glimpse", "pomdp"], ["0.25"])} == {
        "glimpse-0.25",
        "pomdp-0.25",
    }


@pytest.mark.parametrize(
    ("run_types", "thresholds", "message"),
    [
        ([], ["0.5"], "name these with --run-types"),
        (["generate"], [], "'generate' collects rows"),
        (["glimpse"], ["pomdp=0.5"], "none of the run types"),
    ],
)
def test_further_run_types_that_cannot_be_compared_are_refused(
    run_types: Any, thresholds: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        further_points(parse(MODELS, "test"), run_types, thresholds)


def test_the_table_of_the_run_type_pomdp_is_learned_from_the_rows() -> None:
    config, rows = parse(MODELS, "test"), [a_row(number, number % 2, 1.0) for number in range(400)]
    assert with_learned_steps(config, rows, ["glimpse"]) is config
    learned = with_learned_steps(config, rows, ["pomdp"]).pomdp
    assert (learned.draft_right, learned.target_right, learned.steps) == (0.5, 1.0, config.pomdp.steps)
