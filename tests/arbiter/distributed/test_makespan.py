"""A long problem leaves no worker idle, because problems are claimed and not divided beforehand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.makespan import bound, claimed, main, sharded

WORKERS = 8


def skewed(position: int, seconds: float = 50.0) -> list[float]:
    return [seconds if number == position else 1.0 for number in range(100)]


@given(position=st.integers(0, 99))
def test_with_four_places_a_worker_the_run_takes_at_most_a_tenth_longer_than_the_bound(position: int) -> None:
    seconds = skewed(position)
    assert claimed(seconds, WORKERS, 4) <= 1.1 * bound(seconds, WORKERS * 4)


@given(seconds=st.lists(st.sampled_from([1.0, 2.0, 30.0]), min_size=1, max_size=40), places=st.integers(1, 3))
def test_no_place_is_idle_while_a_problem_waits(seconds: list[float], places: int) -> None:
    everywhere = WORKERS * places
    before_the_last = sum(seconds) / everywhere
    assert claimed(seconds, WORKERS, places) <= before_the_last + max(seconds) * (1 - 1 / everywhere) + 1e-9


@given(position=st.integers(0, 99), places=st.integers(1, 4))
def test_static_shards_are_never_faster_by_more_than_a_problem(position: int, places: int) -> None:
    seconds = skewed(position)
    assert claimed(seconds, WORKERS, places) <= sharded(seconds, WORKERS, places) + 1.0


def test_the_benchmark_prints_a_line_for_each_position(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--places", "4"])
    assert len(capsys.readouterr().out.splitlines()) == 5
