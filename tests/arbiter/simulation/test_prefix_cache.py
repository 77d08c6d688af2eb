"""The simulated prefix cache."""

from hypothesis import given
from hypothesis import strategies as st

from arbiter.simulation.cache import CachedText, PrefixCache

contexts = st.lists(
    st.lists(st.sampled_from([CachedText("a", 1), CachedText("b", 2), CachedText("c", 3)]), max_size=5), max_size=20
)


def test_what_begins_alike_is_known_as_far_as_it_does() -> None:
    cache = PrefixCache(100)
    cache.remember([CachedText("q", 10), CachedText("one", 5), CachedText("two", 5)])
    assert cache.known([CachedText("q", 10), CachedText("one", 5), CachedText("three", 9)]) == 15
    assert cache.known([CachedText("one", 5)]) == 0


def test_both_branches_of_a_context_are_known() -> None:
    cache = PrefixCache(100)
    for last in ("draft", "target"):
        cache.remember([CachedText("q", 10), CachedText(last, 5)])
    assert [cache.known([CachedText("q", 10), CachedText(last, 5)]) for last in ("draft", "target")] == [15, 15]
    assert cache.tokens == 20


def test_the_longest_unused_goes_first_and_its_end_before_its_beginning() -> None:
    cache = PrefixCache(25)
    cache.remember([CachedText("old", 10), CachedText("end", 5)])
    cache.remember([CachedText("new", 10)])
    cache.remember([CachedText("newer", 4)])
    assert cache.known([CachedText("old", 10), CachedText("end", 5)]) == 10
    assert cache.known([CachedText("new", 10)]) == 10
    assert (cache.tokens, cache.evicted) == (24, 5)


@given(budget=st.integers(0, 20), seen=contexts)
def test_no_more_is_held_than_the_budget_and_all_that_is_held_can_be_found(
    budget: int, seen: list[list[CachedText]]
) -> None:
    cache, added = PrefixCache(budget), 0
    for context in seen:
        held, known = cache.tokens + cache.evicted, cache.known(context)
        cache.remember(context)
        added += sum(text.tokens for text in context) - known
        assert cache.tokens + cache.evicted - held == sum(text.tokens for text in context) - known
        assert cache.tokens <= budget
    assert cache.tokens + cache.evicted == added


@given(seen=contexts)
def test_with_room_for_all_everything_seen_is_known(seen: list[list[CachedText]]) -> None:
    cache = PrefixCache(1000)
    for context in seen:
        cache.remember(context)
    assert [cache.known(context) for context in seen] == [sum(text.tokens for text in context) for context in seen]
