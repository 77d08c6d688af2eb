"""Whatever is asked in whatever company: the same answers, and memory within its bound."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.in_process.sequence_model import Chunk
from tests.arbiter.backends.in_process.scripted_model import PLENTY, TOKEN_BYTES, Answer, Ask, Bench, expected
from tests.hypothesis_profiles import examples

PIECE = 128  # slots have room for a multiple of this


@st.composite
def requests(draw: Callable[..., Any]) -> Ask:
    """Requests for texts that often begin alike, some of them longer than one pass reads."""
    begin = draw(st.integers(0, 2))
    repeated = draw(st.sampled_from([1, 3, 40, 300, 700]))
    prompt = (*[begin] * repeated, *draw(st.lists(st.integers(0, 3), max_size=6)))
    return Ask(prompt, draw(st.integers(1, 9)), draw(st.integers(1, min(len(prompt), 12))))


def distinct(asks: Sequence[Ask]) -> list[Ask]:
    return list(dict.fromkeys(asks))


@examples(0.5)
@given(
    st.lists(st.lists(requests(), min_size=1, max_size=6).map(distinct), min_size=1, max_size=3),
    st.integers(1, 5),
    st.integers(1, 3000),  # with 0, rows take what they need
)
def test_answers_and_reuse_are_right_and_memory_is_bounded(batches: list[list[Ask]], largest: int, tokens: int) -> None:
    """Memory is above the limit only while a single row runs that needs more alone."""
    bench = Bench(largest, tokens * TOKEN_BYTES)
    model, engine = bench.model, bench.engine

    for asks in batches:
        longest = max(len(ask.prompt) + ask.length for ask in asks)

        def before(chunks: Sequence[Chunk], alone: int = -(-longest // PIECE) * PIECE * TOKEN_BYTES) -> None:
            if engine.kv_bytes > tokens * TOKEN_BYTES:
                assert len(chunks) == 1
                assert engine.kv_bytes <= alone

        model.before = before
        for ask, answer in zip(asks, bench.run(*asks), strict=True):
            assert isinstance(answer, Answer), answer
            assert msgspec.structs.replace(answer, reused=0) == expected(ask)
            assert 0 <= answer.reused <= len(ask.prompt) - ask.shown
    assert engine.kv_bytes - model.slots.bytes <= max(tokens * TOKEN_BYTES - model.slots.bytes, 0)


@examples(0.5)
@given(st.lists(requests(), min_size=1, max_size=8).map(distinct), st.integers(1, 4))
def test_answers_are_the_same_without_memory_and_with_plenty(asks: list[Ask], largest: int) -> None:
    plenty, none = Bench(largest, PLENTY), Bench(largest, 1)
    for _ in range(2):  # the second time everything was read before
        texts = [[msgspec.structs.replace(answer, reused=0) for answer in bench.run(*asks)] for bench in (plenty, none)]
        assert texts[0] == texts[1] == [expected(ask) for ask in asks]
    assert all(answer.reused == 0 for answer in none.answers.values())
    for ask, answer in plenty.answers.items():
        assert answer.reused == len(ask.prompt) - ask.shown
