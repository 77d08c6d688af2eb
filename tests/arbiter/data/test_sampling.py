"""A sample keeps the shares of the sources, and a problem keeps its part of the data."""

import random

from hypothesis import given
from hypothesis import strategies as st

from arbiter.data import Problem
from arbiter.data.sampling import shares, split_of, stratified

SIZES = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(1, 30), min_size=1, max_size=6)


def problems(sizes: dict[str, int]) -> list[Problem]:
    return [Problem(f"{name}{index}", "q", source=name) for name, size in sizes.items() for index in range(size)]


@given(SIZES, st.integers(0, 120))
def test_each_source_has_its_share_within_one(sizes: dict[str, int], total: int) -> None:
    whole = sum(sizes.values())
    found = shares(sizes, total)
    assert sum(found.values()) == min(total, whole)
    assert all(abs(found[name] - min(total, whole) * size / whole) < 1 for name, size in sizes.items())
    assert all(found[name] <= size for name, size in sizes.items())


def test_remainders_go_to_the_largest_first() -> None:
    assert shares({"a": 5, "b": 3, "c": 2}, 5) == {"a": 3, "b": 1, "c": 1}
    assert shares({"b": 1, "a": 1}, 1) == {"b": 0, "a": 1}


@given(SIZES, st.integers(0, 60), st.randoms())
def test_a_sample_depends_on_no_order(sizes: dict[str, int], limit: int, rng: random.Random) -> None:
    data = problems(sizes)
    other = list(data)
    rng.shuffle(other)
    assert {problem.id for problem in stratified(data, limit, 3)} == {
        problem.id for problem in stratified(other, limit, 3)
    }


def test_another_seed_is_another_sample_in_the_order_of_the_data() -> None:
    data = problems({"a": 200})
    one, other = stratified(data, 50, 1), stratified(data, 50, 2)
    assert one != other
    assert [data.index(problem) for problem in one] == sorted(data.index(problem) for problem in one)


def test_a_problem_keeps_its_part_and_parts_have_their_shares() -> None:
    parts = [split_of(str(number), 7, 0.1, 0.2) for number in range(5000)]
    assert parts == [split_of(str(number), 7, 0.1, 0.2) for number in range(5000)]
    assert abs(parts.count("validation") / 5000 - 0.1) < 0.02
    assert abs(parts.count("test") / 5000 - 0.2) < 0.02
    assert parts != [split_of(str(number), 8, 0.1, 0.2) for number in range(5000)]
