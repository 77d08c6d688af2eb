"""How much of the gap between both models alone runs recover: PGR, CPT and APGR."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.config.run_tables import RunType
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.gap_figures import GapRecovery, OutcomesOfRun, RunRecovery, gap_recovery, shown
from arbiter.runs.reports.gap_recovery import average_recovered, share_that_closes
from arbiter.runs.reports.problem_outcomes import ProblemOutcome

PROBLEMS = 50


def a_run(run_type: RunType, right: int, tokens: int, threshold: float | None = None) -> OutcomesOfRun:
    """Return a run that solves the first ``right`` problems."""
    outcomes = [
        ProblemOutcome(f"p{n}", float(n < right), draft_steps=0, steps=1, target_tokens=tokens) for n in range(PROBLEMS)
    ]
    return OutcomesOfRun(f"{run_type}-{threshold}", run_type, threshold, outcomes)


DRAFT, TARGET = a_run("draft", 25, 0), a_run("target", 45, 400)
RUNS = (DRAFT, a_run("router", 43, 120, 0.4), a_run("router", 35, 40, 0.8), TARGET)


def values(estimates: tuple[BootstrapEstimate, ...]) -> list[float | None]:
    return [None if one.value is None else round(one.value, 9) for one in estimates]


def test_a_run_recovers_its_part_of_the_gap_for_its_share_of_the_targets_tokens() -> None:
    found = gap_recovery(RUNS)
    assert (found.problems, round(found.gap.value or 0, 9), found.undefined) == (PROBLEMS, 0.4, None)
    assert [run.run for run in found.runs] == ["router-0.4", "router-0.8"]
    assert values(tuple(run.target_share for run in found.runs)) == [0.3, 0.1]
    assert values(tuple(run.recovered for run in found.runs)) == [0.9, 0.5]
    assert [run.target_tokens for run in found.runs] == [120, 40]


def test_the_thresholds_and_the_average_are_those_of_the_line_through_the_runs() -> None:
    [router] = gap_recovery(RUNS).curves
    assert values(router.thresholds) == [0.1, 0.25, 0.65]
    assert values((router.average,)) == [0.83]


def test_every_figure_has_an_interval_that_holds_it() -> None:
    found = gap_recovery(RUNS)
    [router] = found.curves
    for one in (found.gap, *router.thresholds, router.average, *(run.recovered for run in found.runs)):
        assert one.value is not None
        assert one.interval is not None
        assert one.interval[0] <= one.value <= one.interval[1]


def test_each_run_type_has_a_curve_of_its_own() -> None:
    found = gap_recovery([*RUNS, a_run("random", 35, 200, 0.5)])
    assert {curve.run_type: round(curve.average.value or 0, 9) for curve in found.curves} == {
        "router": 0.83,
        "random": 0.5,
    }


def test_the_same_seed_gives_the_same_intervals_whatever_the_order_of_the_runs() -> None:
    turned = gap_recovery(tuple(reversed(RUNS)))
    assert gap_recovery(RUNS).curves == turned.curves
    assert gap_recovery(RUNS, seed=1).curves != turned.curves


def test_run_types_are_compared_at_equal_shares_of_the_targets_tokens() -> None:
    found = gap_recovery([*RUNS, a_run("random", 35, 200, 0.5)])
    router, random = found.curves
    assert (values(router.at), values(random.at)) == ([0.5, 0.7, 0.9], [0.1, 0.2, 0.3])
    assert found.best == ("router", "router", "router")
    assert values(router.behind) == [0, 0, 0]
    assert values(random.behind) == [-0.4, -0.5, -0.6]


def test_a_difference_from_the_best_is_paired_by_problem() -> None:
    same = a_run("confidence", 35, 40, 0.5)
    found = gap_recovery([DRAFT, a_run("router", 35, 40, 0.8), same, TARGET])
    confidence = next(curve for curve in found.curves if curve.run_type == "confidence")
    assert all(one.interval == (0.0, 0.0) for one in confidence.behind)
    assert "10%: router (no clear difference: confidence)" in found.text


def test_a_run_type_that_has_the_target_write_every_step_is_never_the_best() -> None:
    found = gap_recovery([*RUNS, a_run("oracle", 45, 20, 0.0)])
    assert found.best == ("router", "router", "router")
    assert "oracle" not in found.text
    assert gap_recovery([DRAFT, a_run("oracle", 45, 400, 0.0), TARGET]).best == ()


def test_the_table_of_shares_has_each_difference_but_that_of_the_best() -> None:
    _, shares, _ = gap_recovery([*RUNS, a_run("random", 35, 200, 0.5)]).tables
    heads, router, random = shares
    assert heads[1:3] == ["PGR at 10% of the target's tokens", "minus the best"]
    assert (router[1][:5], router[2]) == ("50.0%", "–")
    assert (random[1][:5], random[2][:6]) == ("10.0%", "-40.0%")


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ((DRAFT, *RUNS[1:3]), "they need one run of the target alone, and there are 0"),
        ((DRAFT, *RUNS), "they need one run of the draft alone, and there are 2"),
        ((DRAFT, a_run("target", 25, 400)), "the target alone is not more accurate than the draft alone"),
        ((DRAFT, a_run("target", 20, 400)), r"\(the gap is -10.0%\)"),
        ((DRAFT, a_run("target", 26, 400)), "the interval of the gap contains zero, 2.0%"),
        ((DRAFT, a_run("target", 45, 0)), "no count of the target's tokens"),
        ((OutcomesOfRun("d", "draft", None, DRAFT.outcomes[1:]), TARGET), "other problems"),
        (
            (DRAFT, OutcomesOfRun("t", "target", None, [ProblemOutcome(f"p{n}", None, 0, 1) for n in range(PROBLEMS)])),
            "no answer of the draft alone or of the target alone is graded",
        ),
    ],
)
def test_without_a_sure_gap_there_is_a_reason_in_words_and_no_number(
    runs: tuple[OutcomesOfRun, ...], reason: str
) -> None:
    found = gap_recovery(runs)
    assert found.undefined is not None
    assert re.search(reason, found.undefined)
    assert (found.runs, found.curves) == ((), ())
    assert found.text.startswith("CPT, PGR and APGR are not defined: ")
    assert found.tables == []


def test_a_run_that_is_worse_than_the_draft_alone_recovers_less_than_nothing() -> None:
    found = gap_recovery([DRAFT, a_run("random", 15, 100, 0.2), TARGET])
    assert values((found.runs[0].recovered,)) == [-0.5]


points = st.lists(
    st.tuples(st.integers(0, 1500).map(lambda share: share / 1000), st.floats(-0.5, 1.5)),
    min_size=0,
    max_size=6,
    unique_by=lambda point: point[0],
).filter(lambda found: not {0.0, 1.0} & {share for share, _ in found})


@given(points)
def test_a_larger_part_of_the_gap_never_costs_less(found: list[tuple[float, float]]) -> None:
    shares, parts = (np.array(each) for each in zip((0.0, 0.0), *found, (1.0, 1.0), strict=True))
    costs = [share_that_closes(level, shares, parts) for level in (0.05, 0.5, 0.8, 0.95, 1.0)]
    assert costs == sorted(costs)
    assert all(0 <= cost <= 1 for cost in costs)
    assert min(*parts, 0) <= average_recovered(shares, parts) <= max(*parts, 1)


@given(points)
def test_the_line_reaches_the_level_at_the_share_that_closes_it(found: list[tuple[float, float]]) -> None:
    shares, parts = (np.array(each) for each in zip((0.0, 0.0), *found, (1.0, 1.0), strict=True))
    share = share_that_closes(0.8, shares, parts)
    order = np.argsort(shares)
    assert np.interp(share, shares[order], parts[order]) == pytest.approx(0.8, abs=1e-6) or share in shares


def test_a_level_that_is_not_reached_has_no_share() -> None:
    assert np.isnan(share_that_closes(0.5, np.array([0.0, 1.0]), np.array([np.nan, np.nan])))


def test_the_tables_show_each_figure_with_its_interval() -> None:
    run = RunRecovery("a", "router", 0.5, 12.34, BootstrapEstimate(0.25, (0.2, 0.3)), BootstrapEstimate(0.5))
    _, (_, shown_run) = GapRecovery(runs=(run,)).tables
    assert shown_run == ["a", "12.3", "25.0% (20.0% to 30.0%)", "50.0%"]
    assert shown(BootstrapEstimate(None)) == "–"
