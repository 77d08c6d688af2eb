"""A store of prefixes against a dictionary of all prefixes."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arbiter.backends.in_process.prefix_store import PrefixStore

LAYERS, HEADS, SIZE = 2, 3, 1
TOKEN_BYTES = LAYERS * HEADS * 2 * SIZE * 8
PLENTY = 10**9

texts = st.lists(st.integers(0, 2), max_size=9)


def keys_and_values(ids: Sequence[int]) -> Tensor:
    """Return what a model would keep of ``ids``: at each token, numbers that all tokens up to it determine."""
    marks = [float(hash((place, *ids[: place + 1])) % 2**40) for place in range(len(ids))]
    layers = torch.arange(LAYERS * HEADS * 2, dtype=torch.float64).reshape(LAYERS, HEADS, 2, 1, SIZE)
    return layers + torch.tensor(marks, dtype=torch.float64).reshape(1, 1, 1, -1, 1)


def put(store: PrefixStore, ids: Sequence[int]) -> None:
    """Store ``ids`` as an engine does, which reads and saves only what is not there."""
    start = store.stored(ids)
    store.add(ids, start, keys_and_values(ids)[:, :, :, start:].clone())


def found(store: PrefixStore, ids: Sequence[int], most: int = PLENTY) -> Tensor:
    return torch.cat([keys_and_values([]), *store.find(ids, most)], 3)


def prefixes(ids: Sequence[int]) -> set[tuple[int, ...]]:
    return {tuple(ids[:end]) for end in range(1, len(ids) + 1)}


@given(st.lists(texts, max_size=8), texts, st.integers(0, 9))
def test_the_longest_stored_prefix_is_found_and_never_more_than_asked_for(
    stored: list[list[int]], ids: list[int], most: int
) -> None:
    store = PrefixStore(PLENTY)
    known: set[tuple[int, ...]] = set()
    for text in stored:
        put(store, text)
        known |= prefixes(text)
        longest = max((len(prefix) for prefix in prefixes(ids) & known), default=0)
        assert store.stored(ids) == longest
        assert torch.equal(found(store, ids, most), keys_and_values(ids[: min(longest, most)]))


@given(st.lists(texts, max_size=8))
def test_a_prefix_that_texts_share_takes_its_bytes_once(stored: list[list[int]]) -> None:
    store = PrefixStore(PLENTY)
    for text in stored:
        put(store, text)
    distinct = len(set[tuple[int, ...]]().union(*map(prefixes, stored)))
    assert (len(store), store.bytes) == (distinct, distinct * TOKEN_BYTES)


@given(st.lists(st.tuples(texts, st.booleans(), st.integers(0, 25)), max_size=12))
def test_the_limit_holds_after_each_change_and_what_is_left_is_right(
    steps: list[tuple[list[int], bool, int]],
) -> None:
    store = PrefixStore(20 * TOKEN_BYTES)
    for text, lookup, limit in steps:
        if lookup:
            kept = found(store, text)
            assert torch.equal(kept, keys_and_values(text[: kept.shape[3]]))
            assert kept.shape[3] == store.stored(text)
        else:
            put(store, text)
            assert store.bytes <= store.limit
            store.limit = limit * TOKEN_BYTES
            store.trim()
        assert store.bytes == len(store) * TOKEN_BYTES <= store.limit


def test_the_least_recently_used_text_goes_first() -> None:
    store = PrefixStore(9 * TOKEN_BYTES)
    for first in (1, 2, 3):
        put(store, [first] * 3)
    assert found(store, [1] * 3).shape[3] == 3  # used again
    put(store, [4] * 3)
    assert [store.stored([first] * 3) for first in (1, 2, 3, 4)] == [3, 0, 3, 3]


def test_a_prefix_stays_while_a_text_that_begins_with_it_stays() -> None:
    store = PrefixStore(6 * TOKEN_BYTES)
    put(store, [0, 0, 1, 1])
    put(store, [0, 0, 2, 2])
    assert store.bytes == store.limit
    put(store, [0, 0, 3, 3])
    assert [store.stored([0, 0, last, last]) for last in (1, 2, 3)] == [2, 4, 4]


def test_asking_how_much_is_stored_is_no_use_of_it() -> None:
    store = PrefixStore(6 * TOKEN_BYTES)
    put(store, [1, 1, 1])
    put(store, [2, 2, 2])
    assert store.stored([1, 1, 1]) == 3
    put(store, [3, 3, 3])
    assert [store.stored([first] * 3) for first in (1, 2, 3)] == [0, 3, 3]


def test_a_text_larger_than_the_limit_is_not_kept() -> None:
    store = PrefixStore(3 * TOKEN_BYTES)
    put(store, [1, 2, 3, 4])
    assert (len(store), store.bytes, store.find([1, 2, 3, 4], PLENTY)) == (0, 0, [])


@pytest.mark.parametrize("length", [1, 5])
def test_texts_that_grow_step_by_step_are_found_whole(length: int) -> None:
    store = PrefixStore(PLENTY)
    whole = list(range(4 * length))
    for start, end in pairwise(range(0, len(whole) + 1, length)):
        assert store.stored(whole) == start
        put(store, whole[:end])
    assert torch.equal(found(store, [*whole, 99]), keys_and_values(whole))
