"""Controllers: when to draft ahead, when to verify drafts, how many requests to make, and budgets."""

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.controllers import BudgetControl, LimitControl, LookaheadControl, VerifyControl, lookahead_depth


@pytest.mark.parametrize(
    ("acceptance", "load", "depth"),
    [
        (0.95, 0.0, 3),
        (0.7, 0.0, 3),
        (0.6, 0.0, 2),
        (0.5, 0.0, 1),
        (0.3, 0.0, 0),  # too rarely used, even for an idle model
        (0.9, 0.5, 3),
        (0.7, 0.5, 1),
        (0.7, 0.7, 0),  # not above the load
        (0.95, 0.94, 1),
        (1.0, 1.0, 0),  # no free slot
        (1.0, 0.99, 3),
        (0.0, 0.0, 0),
    ],
)
def test_the_depth_follows_acceptance_and_load(acceptance: float, load: float, depth: int) -> None:
    assert lookahead_depth(acceptance, load) == depth


shares = st.floats(0, 1)


@given(shares, shares, shares)
def test_more_load_never_drafts_further_ahead_and_more_acceptance_never_less(a: float, b: float, load: float) -> None:
    low, high = sorted((a, b))
    assert lookahead_depth(low, load) <= lookahead_depth(high, load)
    assert lookahead_depth(load, high) <= lookahead_depth(load, low)


def test_a_pinned_depth_stays() -> None:
    control = LookaheadControl(2)
    for _ in range(100):
        control.observe(accepted=False)
    assert (control.depth(0.0), control.depth(1.0)) == (2, 2)


def test_the_observed_acceptance_rate_moves_the_depth() -> None:
    control = LookaheadControl(None)
    depths = [control.depth(0.0)]
    for accepted in (True, False):
        for _ in range(200):
            control.observe(accepted)
        depths.append(control.depth(0.0))
    assert depths == [1, 3, 0]


@pytest.mark.parametrize(("mode", "shown"), [("on", 100), ("off", 0)])
def test_a_pinned_mode_stays(mode: str, shown: int) -> None:
    assert shares_of(VerifyControl("on" if mode == "on" else "off"), checked=1.0, written=1.0) == [shown]


@pytest.mark.parametrize(("checked", "written", "least", "most"), [(1.0, 2.0, 85, 95), (2.0, 1.0, 5, 15)])
def test_the_faster_way_is_taken_and_the_other_now_and_then(
    checked: float, written: float, least: int, most: int
) -> None:
    control = VerifyControl("auto")
    shares_of(control, checked, written)
    [later] = shares_of(control, checked, written)
    assert least <= later <= most


def test_it_changes_its_mind_when_times_change() -> None:
    control = VerifyControl("auto")
    shares_of(control, 1.0, 2.0, rounds=3)
    before, *_, after = shares_of(control, 3.0, 2.0, rounds=10)
    assert before > after
    assert after < 20


def test_where_a_model_checks_nothing_both_are_the_same_and_nothing_is_decided() -> None:
    control = VerifyControl("auto")
    for _ in range(100):
        control.shows()
        control.observe(shown=False, tokens=10, seconds=1.0)
    assert {control.shows() for _ in range(2)} == {True, False}


def shares_of(control: VerifyControl, checked: float, written: float, rounds: int = 1) -> list[int]:
    """How many of each 100 escalations show the draft, if the two kinds take ``checked`` and ``written`` seconds."""
    counts: list[int] = []
    for _ in range(rounds):
        shown: list[bool] = []
        for _ in range(100):
            shows = control.shows()
            control.observe(shows, tokens=10, seconds=checked if shows else written)
            shown.append(shows)
        counts.append(sum(shown))
    return counts


def escalated(control: BudgetControl, scores: Iterable[float], above: bool) -> int:
    """The number of steps with these scores that are escalated."""
    found = 0
    for score in scores:
        found += score > control.threshold if above else score < control.threshold
        control.observe(score)
    return found


@pytest.mark.parametrize(
    ("above", "score", "threshold", "after"),
    [
        (True, 0.9, 0.5, 0.5 + 0.05 * 0.8),  # escalated: the next one needs a higher score
        (True, 0.5, 0.5, 0.5 - 0.05 * 0.2),  # kept, as in a tie: the next one needs a lower score
        (False, 0.1, 0.5, 0.5 - 0.05 * 0.8),
        (False, 0.5, 0.5, 0.5 + 0.05 * 0.2),
    ],
)
def test_an_escalation_moves_the_threshold_away_from_more_and_a_kept_draft_back(
    above: bool, score: float, threshold: float, after: float
) -> None:
    assert BudgetControl(0.2, threshold, above).observe(score) == pytest.approx(after)


@given(
    st.lists(st.floats(0.0, 1.0) | st.sampled_from([0.0, 0.5, 1.0]), max_size=400),
    st.floats(0.01, 0.99),
    st.floats(0.0, 1.0),
    st.booleans(),
)
def test_the_budget_holds_for_any_scores_whatsoever(
    scores: list[float], budget: float, threshold: float, above: bool
) -> None:
    control = BudgetControl(budget, threshold, above)
    assert abs(escalated(control, scores, above) - budget * len(scores)) <= BudgetControl.slack
    assert -0.1 <= control.threshold <= 1.1


@pytest.mark.parametrize("above", [True, False])
def test_the_budget_is_held_while_the_scores_drift(above: bool) -> None:
    rng, control = random.Random(0), BudgetControl(0.2, 0.5, above)
    for centre in (0.2, 0.8, 0.4):
        scores = [min(max(rng.gauss(centre, 0.1), 0.0), 1.0) for _ in range(1000)]
        assert 0.17 <= escalated(control, scores, above) / 1000 <= 0.23


def test_a_limit_begins_at_the_most() -> None:
    assert LimitControl(100).limit == 100


def test_requests_that_are_refused_together_lower_the_limit_once() -> None:
    control = LimitControl(100)
    together = [control.ask() for _ in range(100)]
    assert [control.refused(number) for number in together] == ["refused", *[None] * 99]
    assert control.limit == 70
    control.refused(control.ask())
    assert control.limit == 49


def test_a_limit_grows_by_one_with_a_round_of_answers() -> None:
    control = LimitControl(100)
    control.refused(control.ask())
    moves = [control.answered(control.ask(), 1.0, 10, full=True) for _ in range(72)]
    assert moves.count("room") == 1
    assert control.limit == 71


def test_a_limit_that_is_not_used_up_does_not_grow() -> None:
    control = LimitControl(100)
    control.refused(control.ask())
    assert not any(control.answered(control.ask(), 1.0, 10, full=False) for _ in range(500))


def test_a_limit_does_not_grow_while_requests_wait_at_the_server() -> None:
    control = LimitControl(100)
    control.refused(control.ask())
    control.waits(3)
    assert not any(control.answered(control.ask(), 1.0, 10, full=True) for _ in range(500))
    control.waits(0)
    assert any(control.answered(control.ask(), 1.0, 10, full=True) for _ in range(500))


@pytest.mark.parametrize(("waiting", "limit"), [(None, 100), (0, 100), (25, 100), (26, 70), (1000, 70)])
def test_a_long_queue_lowers_the_limit(waiting: int | None, limit: int) -> None:
    control = LimitControl(100)
    assert control.waits(waiting) == ("queue" if limit < 100 else None)
    assert control.limit == limit


@pytest.mark.parametrize(("tells_queue", "slow"), [(False, True), (True, False)])
def test_a_server_that_got_slow_has_less_only_if_it_does_not_tell_its_queue(tells_queue: bool, slow: bool) -> None:
    control = LimitControl(100)
    control.waits(0 if tells_queue else None)
    for _ in range(50):
        control.answered(control.ask(), 1.0, 10, full=True)
    moves = [control.answered(control.ask(), 8.0, 10, full=True) for _ in range(50)]
    assert ("slow" in moves) == slow


def test_an_idle_server_s_speed_is_no_measure_of_a_busy_one_s() -> None:
    control = LimitControl(100)
    for _ in range(50):
        control.answered(control.ask(), 0.1, 10, full=False)
    assert not any(control.answered(control.ask(), 8.0, 10, full=True) for _ in range(50))


signals = st.lists(
    st.one_of(
        st.tuples(st.just("refused")),
        st.tuples(st.just("answered"), st.floats(0, 1e4), st.integers(0, 1000), st.booleans()),
        st.tuples(st.just("waits"), st.none() | st.integers(0, 10_000)),
    ),
    max_size=200,
)


@given(st.integers(1, 300), signals)
def test_a_limit_stays_between_an_eighth_and_the_most(most: int, signals: list[tuple[Any, ...]]) -> None:
    control = LimitControl(most)
    for kind, *arguments in signals:
        before = control.limit
        match kind:
            case "refused":
                moved = control.refused(control.ask())
            case "answered":
                moved = control.answered(control.ask(), *arguments)
            case _:
                moved = control.waits(*arguments)
        assert max(1, most // 8) <= control.limit <= most
        assert (moved is None) == (control.limit == before)
