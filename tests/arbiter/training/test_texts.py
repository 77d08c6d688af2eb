"""The text that a router reads for a row, and its labels."""

# pyright: reportUnknownMemberType=false
# (transformers is typed in part)

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from arbiter.backends.prompts import PromptTemplate
from arbiter.data.training_rows import TrainingRow
from arbiter.pocket import world
from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Step, Transcript
from arbiter.training.batches import IGNORED, BatchStream, Labelled, collated, epochs
from arbiter.training.labels import advantages, balanced, edges_of, labels_of, target_names
from arbiter.training.texts import RouterTexts

TEMPLATE = PromptTemplate(world.PROMPT, annotate=True)


def test_the_text_is_what_the_ring_gives_its_scorer(
    tokenizer: PreTrainedTokenizerFast, a_row: Callable[..., TrainingRow]
) -> None:
    row = a_row()
    read = TEMPLATE.render_candidate(Transcript(row.question, row.history), row.draft, "draft", world.SEPARATOR)
    found = RouterTexts(tokenizer, TEMPLATE, world.SEPARATOR, 200).ids([row])[0]
    assert found is not None
    assert tokenizer.decode(found) == read


@given(lengths=st.lists(st.integers(1, 12), max_size=10), longest=st.integers(1, 160))
def test_a_long_text_keeps_question_and_newest_steps_whole(
    tokenizer: PreTrainedTokenizerFast, a_row: Callable[..., TrainingRow], lengths: list[int], longest: int
) -> None:
    history = tuple(Step(f"step {index} " + "1+" * size, "draft") for index, size in enumerate(lengths))
    row = a_row(history=history)
    texts = RouterTexts(tokenizer, TEMPLATE, world.SEPARATOR, longest)
    options = [texts.text(row, dropped) for dropped in range(len(history) + 1)]
    fitting = [text for text in options if len(tokenizer(text)["input_ids"]) <= longest]  # pyright: ignore[reportArgumentType]
    found = texts.ids([row])[0]
    assert (None if found is None else tokenizer.decode(found)) == (fitting[0] if fitting else None)


def test_several_targets_have_an_advantage_each(a_row: Callable[..., TrainingRow]) -> None:
    row = a_row(low=0.5, targets=("a", "b", "c"), target_scores=(0.9, 0.1, 0.7), target_names=("big", "huge", "big"))
    assert advantages(row, ("big", "huge", "other")) == [pytest.approx(0.3), pytest.approx(-0.4), None]
    assert advantages(row, ()) == [row.advantage]
    assert target_names([row]) == ("big", "huge")


@given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=40, unique=True))
def test_bins_part_each_side_of_0_evenly(deltas: list[float]) -> None:
    low, high = [d for d in deltas if d < 0], [d for d in deltas if d > 0]
    if min(len(low), len(high)) < 5:
        return
    edges = edges_of(deltas, "10-class")
    assert edges[4] == 0.0
    assert list(edges) == sorted(edges)
    counts = [sum(labels_of([delta], edges, "10-class")[0] == cls for delta in deltas if delta) for cls in range(10)]
    assert max(counts[:5]) - min(counts[:5]) <= 2
    assert max(counts[5:]) - min(counts[5:]) <= 2


@pytest.mark.parametrize(
    ("delta", "binary", "bins", "ordinal"),
    [(-0.8, [0], [0], [0, 0, 0]), (0.0, [0], [1], [1, 0, 0]), (0.1, [1], [2], [1, 1, 0]), (0.9, [1], [3], [1, 1, 1])],
)
def test_labels_count_the_edges_below_an_advantage(
    delta: float, binary: Sequence[int], bins: Sequence[int], ordinal: Sequence[int]
) -> None:
    edges = (-0.5, 0.0, 0.5)
    assert labels_of([delta], (0.0,), "binary") == binary
    assert labels_of([delta], edges, "4-class") == bins
    assert labels_of([delta], edges, "ordinal") == ordinal
    assert labels_of([None, delta], (0.0,), "binary") == [IGNORED, *binary]


def test_bins_of_too_few_values_are_refused() -> None:
    with pytest.raises(DataError, match="too few different values"):
        edges_of([-0.5] * 9 + [0.5] * 9, "10-class")


@given(st.lists(st.booleans(), min_size=2).filter(lambda found: len(set(found)) == 2), st.integers(0, 9))
def test_both_signs_count_as_much(better: list[bool], seed: int) -> None:
    kept = balanced(better, "downsample", seed)
    assert sum(better[index] for index, _ in kept) * 2 == len(kept)
    assert len({index for index, _ in kept}) == len(kept) == 2 * min(sum(better), len(better) - sum(better))
    weights = balanced(better, "weights", seed)
    assert sum(weight for index, weight in weights if better[index]) == pytest.approx(len(better) / 2)
    assert balanced(better, "none", seed) == [(index, 1.0) for index in range(len(better))]


def test_labels_of_tokens_are_padded_and_labels_of_heads_are_not() -> None:
    batch = collated([Labelled([5, 6], [5, 6]), Labelled([7], [7])], pad=1)
    assert batch["input_ids"].tolist() == [[5, 6], [7, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [[5, 6], [7, IGNORED]]
    assert collated([Labelled([5, 6, 8], [0, 1]), Labelled([7], [1, 1])], pad=1)["labels"].tolist() == [[0, 1], [1, 1]]


def test_an_epoch_holds_every_row_once_and_a_stream_can_be_entered_anywhere() -> None:
    rows = [Labelled([1] * length, [length]) for length in (3, 1, 2, 5, 4)]

    def lengths(stream: Any, places: Sequence[int]) -> list[list[int]]:
        return [[len(row.ids) for row in stream[place]] for place in places]

    stream = BatchStream(lambda: epochs(rows, 2, 0), 9)
    whole = lengths(stream, range(9))
    assert sorted(itertools.chain.from_iterable(whole[:3])) == [1, 2, 3, 4, 5]
    assert lengths(BatchStream(lambda: epochs(rows, 2, 0), 9), [4, 5, 2]) == [whole[4], whole[5], whole[2]]
