"""Thresholds that meet a budget."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.policies import LearnedRouter, RewardThreshold
from arbiter.config.config import Config
from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.checkpoints import RouterCheckpoint
from arbiter.evaluation.latency_budget import escalation_within
from arbiter.evaluation.sweep_tuning import first_reached, read_sweep
from arbiter.evaluation.sweep_tuning import tune as tune_sweep
from arbiter.evaluation.thresholds import threshold_at, threshold_within
from arbiter.evaluation.tuning import by_escalation, by_target_tokens, expected, steps_of
from arbiter.protocols.errors import DataError, RunError
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.records import Candidate, Model, Rating, Usage, Verdict
from arbiter.runs.results import Result
from arbiter.simulation.placement import placed
from arbiter.simulation.study import Hardware
from arbiter.simulation.synthetic_workload import SyntheticWorkload

Rows = Callable[..., TrainingRow]
numbers = st.integers(0, 10).map(lambda number: number / 10)
scores = st.lists(numbers, min_size=1, max_size=30)


def verdicts(policy: Policy, own: list[float]) -> list[Verdict]:
    """Return the steps of drafts with these scores under a policy."""
    ratings = [Rating(score, Usage(), 1.0) for score in own]
    drafts = [Candidate("draft", "a step", "separator", Usage(), 1.0, rating=rating) for rating in ratings]
    return [policy.decide(Evidence("p", 0, 0, draft)) for draft in drafts]


@given(scores, st.floats(0, 1))
def test_a_threshold_is_the_lowest_that_escalates_no_more_than_the_share(score: list[float], share: float) -> None:
    values = np.array(score)
    threshold = threshold_at(values, share)
    assert (values > threshold).mean() <= share + 1e-9
    lower = values[values < threshold]
    if len(lower):
        assert (values > lower.max()).mean() > share - 1e-9


@given(scores, st.data())
def test_a_weighted_threshold_is_that_of_steps_that_are_there_so_often(score: list[float], data: st.DataObject) -> None:
    often = data.draw(st.lists(st.integers(1, 3), min_size=len(score), max_size=len(score)))
    share = data.draw(st.floats(0, 1))
    values, weights = np.array(score), np.array(often, dtype=np.float64)
    budget = np.array([share * weights.sum()])
    found = threshold_within(values, np.ones(len(values)), budget, weights[None])[0]
    assert found == threshold_at(np.repeat(values, often), share)


def test_a_budget_of_costs_is_not_passed() -> None:
    score, cost = np.array([0.9, 0.8, 0.7, 0.6]), np.array([5.0, 10.0, 1.0, 1.0])
    assert [threshold_within(score, cost, np.array([budget]), np.ones((1, 4)))[0] for budget in (4.0, 5.0, 16.0)] == [
        0.9,
        0.8,
        0.6,
    ]


def test_the_tuned_threshold_of_rsd_escalates_by_its_policy(a_row: Rows) -> None:
    rows = [a_row(str(number), number / 10) for number in range(10)]
    steps = steps_of(rows, "rsd")
    threshold = by_escalation(steps, 0.3, 200, 0).value or 0.0
    assert threshold == 0.3
    assert (
        verdicts(RewardThreshold(threshold), [row.draft_score for row in rows]) == ["escalate"] * 3 + ["keep_draft"] * 7
    )
    assert expected(steps, threshold, 200, 0)["escalated"].value == pytest.approx(0.3)


def test_the_tuned_threshold_of_a_router_escalates_by_its_policy(a_row: Rows) -> None:
    rows = [a_row(str(number)) for number in range(10)]
    router = RouterCheckpoint("r", lambda some: [[int(row.problem) / 10] for row in some])
    found = by_escalation(steps_of(rows, "router", router), 0.3, 200, 0)
    assert found.value == 0.6
    assert verdicts(LearnedRouter(0.6), [number / 10 for number in range(10)]) == ["keep_draft"] * 7 + ["escalate"] * 3
    assert found.interval is not None
    assert found.interval[0] < 0.6 < found.interval[1]


def test_confidence_is_tuned_where_all_rows_have_it(a_row: Rows) -> None:
    rows = [a_row(str(number), confidence=number / 10) for number in range(1, 11)]
    assert by_escalation(steps_of(rows, "confidence"), 0.2, 100, 0).value == pytest.approx(0.3)
    with pytest.raises(DataError, match="1 of 11 rows have no confidence"):
        steps_of([*rows, a_row("x", confidence=None)], "confidence")


def test_target_tokens_are_a_mean_of_solutions(a_row: Rows) -> None:
    rows = [a_row("p", number / 10, sample=number % 2, target_tokens=(8, 12)) for number in range(10)]
    steps = steps_of(rows, "rsd")
    found = by_target_tokens(steps, 20, 100, 0)
    assert found.value == 0.4
    assert expected(steps, 0.4, 100, 0)["target_tokens"].value == 20


def test_rows_without_tokens_have_no_budget_of_them(a_row: Rows) -> None:
    with pytest.raises(DataError, match="lack the target's token counts"):
        by_target_tokens(steps_of([a_row(target_tokens=())], "rsd"), 20, 100, 0)


def test_a_threshold_stays_on_the_scale_of_its_policy(a_row: Rows) -> None:
    rows = [a_row(str(number), number / 1.0) for number in range(2)]
    assert by_escalation(steps_of(rows, "rsd"), 1.0, 100, 0).value == 1
    router = RouterCheckpoint("r", lambda some: [[0.0] for _ in some])
    assert by_escalation(steps_of(rows, "router", router), 1.0, 100, 0).value == 0


def test_a_router_without_a_checkpoint_is_refused(a_row: Rows) -> None:
    with pytest.raises(DataError, match=r"name it in models\.router"):
        steps_of([a_row()], "router")


@pytest.mark.parametrize(
    ("values", "wanted", "is_cost", "level"),
    [
        ([0.5, 0.7, 0.9], 0.6, False, 0.75),
        ([0.5, 0.7, 0.9], 0.4, False, 1.0),
        ([0.5, 0.7, 0.9], 0.9, False, 0.0),
        ([0.5, 0.7, 0.9], 0.95, False, None),
        ([0.5, 0.7, 0.6], 0.65, False, 0.625),
        ([10, 20, 40], 30, True, 0.25),
        ([10, 20, 40], 10, True, 1.0),
        ([10, 20, 40], 50, True, 0.0),
        ([10, 20, 40], 5, True, None),
    ],
)
def test_the_level_that_first_reaches_what_is_wanted(
    values: list[float], wanted: float, is_cost: bool, level: float | None
) -> None:
    found = first_reached([1.0, 0.5, 0.0], np.array(values, dtype=np.float64), wanted, is_cost)
    assert found == pytest.approx(level) if level is not None else np.isnan(found)


@pytest.fixture
def a_sweep(tmp_path: Path, a_result: Callable[..., Result]) -> Path:
    """A sweep with the router thresholds 0.2, 0.5 and 0.8, which solve 18, 14 and 10 of 20 problems."""
    points: list[dict[str, Any]] = []
    for threshold, right in ((0.2, 18), (0.5, 14), (0.8, 10)):
        folder = tmp_path / f"router-{threshold}"
        folder.mkdir()
        results = [a_result(number < right, problem=f"p{number}", seconds=2 - threshold) for number in range(20)]
        (folder / "results.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in results))
        points.append({"point": folder.name, "run_type": "router", "threshold": threshold})
    points.append({"point": "draft", "run_type": "draft", "threshold": None})
    (tmp_path / "sweep.json").write_bytes(msgspec.json.encode({"points": points, "measured": False}))
    return tmp_path


def test_an_accuracy_is_reached_on_the_line_between_two_runs(a_sweep: Path) -> None:
    found = tune_sweep(read_sweep(a_sweep, "router"), "router", "accuracy", 0.8, 300, 0)
    assert found.threshold.value == pytest.approx(0.35)
    assert found.expected["accuracy"].value == pytest.approx(0.8)
    assert found.expected["seconds"].value == pytest.approx(1.65)
    assert found.expected["accuracy"].interval is not None


def test_the_seconds_of_a_sweep_are_not_passed(a_sweep: Path) -> None:
    found = tune_sweep(read_sweep(a_sweep, "router"), "router", "seconds", 1.4, 100, 0)
    assert found.threshold.value == pytest.approx(0.6)


def test_a_budget_that_no_run_meets_is_refused_with_the_nearest(a_sweep: Path) -> None:
    with pytest.raises(
        DataError, match=r"--accuracy 0\.99: no threshold of the sweep meets it; the nearest one has 0\.9\."
    ):
        tune_sweep(read_sweep(a_sweep, "router"), "router", "accuracy", 0.99, 100, 0)


def test_a_folder_without_two_thresholds_is_refused(a_sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 0 thresholds of 'rsd'"):
        read_sweep(a_sweep, "rsd")
    with pytest.raises(RunError, match="is not a sweep folder"):
        read_sweep(tmp_path / "nothing", "rsd")


@pytest.mark.slow
def test_more_seconds_allow_more_escalations(a_config: Callable[..., Config]) -> None:
    config = a_config(limits={"problems": 4})
    sizes: dict[Model, str] = {"draft": "1.5B", "target": "70B@4xH100", "prm": "PRM-1.5B"}
    hardware = Hardware({model: placed(size, "H100") for model, size in sizes.items()}, dict.fromkeys(sizes, 8))
    world = SyntheticWorkload(problems=6)

    def share(seconds: float) -> float:
        return escalation_within(seconds, config, "rsd", hardware, world, lambda: None)

    shorter, longer = 4.0, 6.0
    assert 0 < share(shorter) < share(longer) < share(1000.0) == 1
    with pytest.raises(DataError, match="even without escalation"):
        share(0.01)
