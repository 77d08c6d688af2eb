"""McNemar's test of two runs."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.evaluation.mcnemar import exact_p, mcnemar
from arbiter.protocols.errors import DataError
from arbiter.runs.reports.curves import CurvePoint, curve

stats: Any = importlib.import_module("scipy.stats")
Points = Callable[..., CurvePoint]


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_symmetric_and_twice_the_tail_of_a_binomial(first: int, second: int) -> None:
    assert exact_p(first, second) == pytest.approx(exact_p(second, first))
    tail = 2 * float(stats.binom.cdf(min(first, second), first + second, 0.5))
    assert exact_p(first, second) == pytest.approx(min(1.0, tail))


def test_mcnemar_counts_the_problems_that_one_run_alone_has_right(a_point: Points) -> None:
    one = curve([a_point(0.5, [True, True, True, False, None, True], 0.3), a_point(0.1, [False] * 6, 0.1)])
    other = curve([a_point(0.6, [False, True, False, True, True, None], 0.7)])
    found = mcnemar(one, other, 0.5)
    assert (found.first, found.second, found.p) == (2, 1, 1.0)
    assert (found.acceptance, found.thresholds) == ((0.5, 0.6), (0.3, 0.7))


def test_mcnemar_refuses_problems_with_several_answers(a_point: Points) -> None:
    shares: Any = [0.5, 1.0]
    with pytest.raises(DataError, match="one answer per problem"):
        mcnemar(curve([a_point(0.5, shares)]), curve([a_point(0.5, [True, False])]), 0.5)
