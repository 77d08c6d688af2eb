"""Lanes of intervals."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from arbiter.exports.lanes import Lanes

INTERVALS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 30)).map(lambda pair: (pair[0], sum(pair))), max_size=40
)


def packed(intervals: list[tuple[int, int]]) -> list[int]:
    """The lane of each interval, taken and released in order of time, as in a log."""
    lanes, chosen = Lanes(), dict[int, int]()
    begins = [(begin, 0, number) for number, (begin, _) in enumerate(intervals)]
    ends = [(end, 1, number) for number, (_, end) in enumerate(intervals)]
    for at, ends_here, number in sorted(begins + ends):
        if ends_here:
            lanes.release(chosen[number], at)
        else:
            chosen[number] = lanes.take(at)
    return [chosen[number] for number in range(len(intervals))]


@given(INTERVALS)
def test_intervals_on_a_lane_neither_overlap_nor_touch(intervals: list[tuple[int, int]]) -> None:
    lanes: dict[int, list[tuple[int, int]]] = {}
    for interval, lane in zip(intervals, packed(intervals), strict=True):
        lanes.setdefault(lane, []).append(interval)
    for on_it in lanes.values():
        ordered = sorted(on_it)
        assert all(before[1] < after[0] for before, after in pairwise(ordered))


@given(INTERVALS)
def test_there_are_no_more_lanes_than_intervals_at_the_busiest_moment(intervals: list[tuple[int, int]]) -> None:
    busiest = max((sum(begin <= at <= end for begin, end in intervals) for at in range(91)), default=0)
    assert len(set(packed(intervals))) == busiest


@given(INTERVALS)
def test_lanes_known_only_at_the_ends_of_intervals_do_not_overlap_either(intervals: list[tuple[int, int]]) -> None:
    lanes, free = Lanes(), dict[int, int]()
    for begin, end in sorted(intervals, key=lambda interval: interval[1]):
        lane = lanes.take(begin)
        lanes.release(lane, end)
        assert free.get(lane, -1) < begin
        free[lane] = end
