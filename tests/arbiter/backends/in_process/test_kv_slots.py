"""Slots keep what was written into them, however they grow and move."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arbiter.backends.in_process.kv_slots import KVSlots

LAYERS, HEADS, SIZE, CONTEXT = 2, 3, 2, 300


def new() -> KVSlots:
    return KVSlots(LAYERS, HEADS, SIZE, CONTEXT, torch.float32, torch.device("cpu"))


def contents(tokens: int) -> Tensor:
    return torch.rand(LAYERS, HEADS, 2, tokens, SIZE)


actions = st.one_of(
    st.tuples(st.just("reserve"), st.integers(1, 6), st.integers(1, CONTEXT)),
    st.tuples(st.just("load"), st.integers(0, 9), st.integers(1, CONTEXT)),
    st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 9)),
)


@given(st.lists(actions, max_size=10))
def test_slots_keep_their_contents(steps: list[tuple[str, int, int]]) -> None:
    slots, held = new(), dict[int, Tensor]()
    slots.reserve(2, 5)
    for action, first, second in steps:
        if action == "reserve":
            slots.reserve(first, second)
        elif action == "load":
            held[first % slots.slots] = saved = contents(min(second, slots.layers.shape[3]))
            slots.load(first % slots.slots, 0, saved)
        elif first % slots.slots in held and first % slots.slots != second % slots.slots:
            saved = held.pop(first % slots.slots)
            slots.move(first % slots.slots, second % slots.slots, saved.shape[3])
            held[second % slots.slots] = saved
        for slot, saved in held.items():
            assert torch.equal(slots.save(slot, 0, saved.shape[3]), saved)


@given(st.integers(1, 9), st.integers(1, CONTEXT), st.integers(1, 9), st.integers(1, CONTEXT), st.integers(0, 2000))
def test_slots_shrink_to_what_they_must_hold_only_above_the_limit(
    first: int, short: int, second: int, long: int, limit: int
) -> None:
    slots = new()
    slots.reserve(first, short)
    larger = slots.bytes_for(max(first, second), max(short, long))
    slots.reserve(second, long, limit * slots.token_bytes)
    needed = slots.bytes_for(second, long)
    assert slots.bytes == (larger if larger <= limit * slots.token_bytes else needed)
    assert slots.slots >= second
    assert long <= slots.layers.shape[3] <= CONTEXT


def test_no_memory_is_used_before_it_is_reserved() -> None:
    assert (new().bytes, new().slots) == (0, 0)


@pytest.mark.parametrize(("start", "end"), [(0, 4), (3, 9), (9, 9)])
def test_what_was_saved_can_be_written_elsewhere(start: int, end: int) -> None:
    slots, saved = new(), contents(9)
    slots.reserve(2, 20)
    slots.load(0, 0, saved)
    slots.load(1, 7, slots.save(0, start, end))
    assert torch.equal(slots.save(1, 7, 7 + end - start), saved[:, :, :, start:end])


def test_what_was_saved_does_not_change_with_its_slot() -> None:
    slots, saved = new(), contents(4)
    slots.reserve(1, 4)
    slots.load(0, 0, saved)
    copy = slots.save(0, 0, 4)
    slots.load(0, 0, contents(4))
    assert torch.equal(copy, saved)


def test_the_heads_of_a_slot_are_side_by_side() -> None:
    slots, saved = new(), contents(4)
    slots.reserve(3, 4)
    slots.load(1, 0, saved)
    assert torch.equal(slots.layers[:, HEADS : 2 * HEADS, :, :4], saved)


def test_cleared_slots_use_no_memory_and_can_grow_again() -> None:
    slots = new()
    slots.reserve(4, 200)
    slots.clear()
    assert (slots.bytes, slots.slots) == (0, 0)
    slots.reserve(1, 5)
    assert slots.bytes == 128 * slots.token_bytes
