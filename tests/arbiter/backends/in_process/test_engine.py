"""Rows join and leave between passes, long texts are read in parts, and each request has its own answer or error."""

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.backends.in_process.sequence_model import Chunk
from arbiter.protocols.errors import ClosedError
from arbiter.protocols.model_traits import KVMemory
from tests.arbiter.backends.in_process.scripted_model import TOKEN_BYTES, Answer, Ask, Bench, expected

SHARE = 512  # the most tokens of a pass that belong to rows which are reading


def a_prompt(first: int, length: int) -> tuple[int, ...]:
    """Return a prompt that no other ``first`` shares a beginning with."""
    return (first, *(place * 7 % 50 for place in range(1, length)))


def slots_of(chunks: Sequence[Chunk]) -> set[int]:
    return {chunk.slot for chunk in chunks}


def plain(answers: Sequence[Any]) -> list[Any]:
    """Return answers without what was reused."""
    return [msgspec.structs.replace(answer, reused=0) if isinstance(answer, Answer) else answer for answer in answers]


def test_each_token_is_written_from_all_tokens_before_it() -> None:
    asks = [Ask(a_prompt(1, 9), 12), Ask(a_prompt(2, 3), 1), Ask(a_prompt(3, 20), 7)]
    assert Bench().run(*asks) == [expected(ask) for ask in asks]


def test_a_pass_reads_one_token_of_each_row_that_writes() -> None:
    bench = Bench()
    bench.run(Ask(a_prompt(1, 9), 4), Ask(a_prompt(2, 5), 4))
    assert [[len(chunk.ids) for chunk in chunks] for chunks in bench.model.passes] == [[9, 5], [1, 1], [1, 1], [1, 1]]
    assert bench.engine.passes == 4


def test_a_request_that_arrives_while_another_writes_joins_at_the_next_pass() -> None:
    bench, first, late = Bench(), Ask(a_prompt(1, 5), 9), Ask(a_prompt(2, 5), 2)
    bench.run(first, at={4: bench.arrival(late)})
    assert [len(chunks) for chunks in bench.model.passes] == [1, 1, 1, 1, 2, 2, 1, 1, 1]
    assert bench.answers == {first: expected(first), late: expected(late)}


def test_a_row_that_ends_leaves_and_the_next_request_takes_its_slot() -> None:
    bench = Bench(largest=2)
    asks = [Ask(a_prompt(1, 4), 2), Ask(a_prompt(2, 4), 6), Ask(a_prompt(3, 4), 3)]
    assert bench.run(*asks) == [expected(ask) for ask in asks]
    assert [len(chunks) for chunks in bench.model.passes] == [2, 2, 2, 2, 2, 1]
    assert {slot for chunks in bench.model.passes for slot in slots_of(chunks)} == {0, 1}


def test_an_answer_arrives_as_soon_as_its_row_ends() -> None:
    bench, short, long = Bench(), Ask(a_prompt(1, 4), 2), Ask(a_prompt(2, 4), 6)
    seen: list[dict[Ask, Any]] = []
    bench.run(short, long, at={3: lambda: seen.append({**bench.answers})})
    assert seen == [{short: expected(short)}]


@pytest.mark.parametrize("largest", [1, 3, 4])
def test_no_more_rows_run_together_than_the_largest_batch(largest: int) -> None:
    bench = Bench(largest=largest)
    asks = [Ask(a_prompt(first, 4 + first), 1 + first % 4) for first in range(11)]
    assert bench.run(*asks) == [expected(ask) for ask in asks]
    assert max(len(chunks) for chunks in bench.model.passes) == largest


class Impatient:
    """Asks ``ask``, and can give it up. Both are called in the event loop."""

    def __init__(self, bench: Bench, ask: Ask) -> None:
        self._bench = bench
        self._ask = ask
        self._scope: anyio.CancelScope | None = None

    def arrive(self) -> None:
        self._bench.tasks.start_soon(self._wait)

    def give_up(self) -> None:
        assert self._scope is not None
        self._scope.cancel()

    async def _wait(self) -> None:
        with anyio.CancelScope() as self._scope:
            await self._bench.ask(self._ask)


def test_a_cancelled_row_leaves_at_the_next_pass_and_the_others_go_on() -> None:
    bench, kept = Bench(), [Ask(a_prompt(1, 4), 9), Ask(a_prompt(3, 4), 9)]
    impatient = Impatient(bench, Ask(a_prompt(2, 4), 40))
    bench.run(*kept, at={2: impatient.arrive, 5: impatient.give_up})
    assert [len(chunks) for chunks in bench.model.passes] == [2, 2, 3, 3, 3, 2, 2, 2, 2]
    assert bench.answers == {ask: expected(ask) for ask in kept}


def test_the_row_that_takes_the_slot_of_a_cancelled_one_keeps_its_text() -> None:
    bench, first, last = Bench(), Ask(a_prompt(1, 4), 3), Ask(a_prompt(3, 9), 9)
    impatient = Impatient(bench, Ask(a_prompt(2, 4), 40))

    def arrive() -> None:
        impatient.arrive()
        bench.tasks.start_soon(bench.ask, last)

    bench.run(first, at={2: arrive, 5: impatient.give_up})
    assert bench.answers == {first: expected(first), last: expected(last)}


def test_passes_end_when_all_requests_are_cancelled() -> None:
    bench = Bench()
    impatient = Impatient(bench, Ask(a_prompt(2, 4), 1000))
    bench.run(Ask(a_prompt(1, 4), 1), at={1: impatient.arrive, 4: impatient.give_up})
    assert len(bench.model.passes) == 4


def test_a_request_that_is_cancelled_while_it_waits_for_memory_is_never_read() -> None:
    bench, first = Bench(cache_bytes=128 * TOKEN_BYTES), Ask(a_prompt(1, 4), 9)
    impatient = Impatient(bench, Ask(a_prompt(2, 4), 5))
    bench.run(first, at={2: impatient.arrive, 5: impatient.give_up})
    assert [len(chunks) for chunks in bench.model.passes] == [1] * 9


def test_closing_in_the_middle_of_a_batch_ends_it_at_once() -> None:
    bench, long, waiting = Bench(largest=1), Ask(a_prompt(1, 4), 1000), Ask(a_prompt(2, 4), 1000)
    bench.run(long, waiting, at={3: bench.engine.worker.close})
    assert {ask: type(answer) for ask, answer in bench.answers.items()} == {long: ClosedError, waiting: ClosedError}
    assert len(bench.model.passes) == 3


def test_a_long_text_is_read_in_several_passes_while_other_rows_go_on_writing() -> None:
    bench, writing, long = Bench(), Ask(a_prompt(1, 4), 9), Ask(a_prompt(2, 3 * SHARE + 10), 2)
    bench.run(writing, at={3: bench.arrival(long)})
    assert bench.answers == {writing: expected(writing), long: expected(long)}
    lengths = [[len(chunk.ids) for chunk in chunks] for chunks in bench.model.passes[2:8]]
    assert lengths == [[1], [1, SHARE], [1, SHARE], [1, SHARE], [1, 10], [1, 1]]


def test_rows_that_read_share_what_a_pass_may_read() -> None:
    bench = Bench()
    asks = [Ask(a_prompt(first, 400), 3) for first in (1, 2, 3)]
    assert bench.run(*asks) == [expected(ask) for ask in asks]
    for chunks in bench.model.passes:
        assert sum(len(chunk.ids) for chunk in chunks if len(chunk.ids) > 1) <= SHARE


@pytest.mark.parametrize(("length", "shown"), [(SHARE, SHARE), (SHARE + 1, 2), (1300, 900), (1300, 1300), (1025, 1024)])
def test_the_outputs_of_shown_tokens_are_complete_though_they_are_read_in_several_passes(
    length: int, shown: int
) -> None:
    bench, ask, other = Bench(), Ask(a_prompt(1, length), 3, shown), Ask(a_prompt(2, 300), 5, 20)
    assert bench.run(other, ask) == [expected(other), expected(ask)]


@pytest.mark.parametrize("where", ["start", "advance", "answer"])
def test_a_row_that_fails_fails_alone(where: str) -> None:
    asks = [Ask(a_prompt(1, 4), 5), Ask(a_prompt(2, 4), 5, fails=where), Ask(a_prompt(3, 4), 7)]
    first, failed, last = Bench(largest=2).run(*asks)
    assert [first, last] == [expected(asks[0]), expected(asks[2])]
    assert (type(failed), str(failed)) == (ValueError, where)


def test_a_model_that_fails_fails_all_rows_that_it_has_and_none_of_the_next() -> None:
    bench = Bench(largest=2)
    asks = [Ask(a_prompt(first, 4), 5) for first in (1, 2, 3, 4)]

    def fail() -> None:
        raise RuntimeError("the device is lost")

    first, second, *others = bench.run(*asks, at={3: fail})
    assert [str(first), str(second)] == ["the device is lost"] * 2
    assert others == [expected(ask) for ask in asks[2:]]
    assert len(bench.model.passes) == 3 + 5  # the failed rows are not read again


def test_a_text_that_begins_like_an_earlier_one_reads_only_the_rest() -> None:
    bench, begin = Bench(), a_prompt(1, 40)
    first = Ask(begin, 6)
    longer = Ask((*begin, *expected(first).written, 3, 4), 2)
    bench.run(first)
    assert bench.run(longer) == [msgspec.structs.replace(expected(longer), reused=45)]
    assert [len(chunk.ids) for chunk in bench.model.passes[6]] == [3]


def test_the_shown_tokens_of_a_text_are_read_again() -> None:
    bench, ask = Bench(), Ask(a_prompt(1, 40), 2, shown=5)
    assert [bench.run(ask)[0].reused, bench.run(ask)[0].reused] == [0, 35]
    assert plain([bench.answers[ask]]) == [expected(ask)]


def test_what_a_failed_model_had_read_is_not_reused() -> None:
    bench, ask = Bench(), Ask(a_prompt(1, 40), 4)

    def fail() -> None:
        raise RuntimeError("the device is lost")

    bench.run(ask, at={3: fail})
    assert bench.run(ask, at={}) == [expected(ask)]


def test_slots_of_many_short_rows_take_no_memory_from_a_long_row() -> None:
    limit = 4 * 128 * TOKEN_BYTES
    bench, long = Bench(largest=4, cache_bytes=limit), Ask(a_prompt(9, 600), 3)
    bench.run(*(Ask(a_prompt(first, 50), 3) for first in range(4)))
    assert bench.engine.kv_bytes == limit
    assert bench.run(long) == [expected(long)]
    assert bench.engine.kv_bytes == 640 * TOKEN_BYTES


def test_the_memory_that_it_reports_is_the_most_so_far_and_the_limit() -> None:
    limit = 4 * 128 * TOKEN_BYTES
    bench = Bench(largest=4, cache_bytes=limit)
    assert bench.engine.kv_memory == KVMemory(0, limit)
    bench.run(Ask(a_prompt(9, 600), 1))
    assert bench.engine.kv_memory == KVMemory(640 * TOKEN_BYTES, limit)
    bench.run(Ask(a_prompt(1, 50), 1))
    assert bench.engine.kv_bytes <= limit
    assert bench.engine.kv_memory == KVMemory(640 * TOKEN_BYTES, limit)


def test_after_a_long_row_short_ones_share_a_batch_again() -> None:
    bench = Bench(largest=4, cache_bytes=4 * 128 * TOKEN_BYTES)
    bench.run(Ask(a_prompt(9, 600), 1))
    bench.run(*(Ask(a_prompt(first, 50), 3) for first in range(4)))
    assert len(bench.model.passes[-1]) == 4


def test_after_many_rows_at_once_texts_are_kept_again() -> None:
    bench, ask = Bench(largest=4, cache_bytes=4 * 128 * TOKEN_BYTES), Ask(a_prompt(9, 100), 1)
    bench.run(*(Ask(a_prompt(first, 50), 3) for first in range(4)))
    bench.run(ask)
    assert bench.run(ask)[0].reused == 99


def test_after_a_row_of_half_the_memory_short_ones_share_a_batch_again() -> None:
    bench = Bench(largest=4, cache_bytes=4 * 128 * TOKEN_BYTES)
    bench.run(Ask(a_prompt(9, 380), 1))
    bench.run(*(Ask(a_prompt(first, 50), 3) for first in range(4)))
    assert len(bench.model.passes[-1]) == 4


def test_with_no_cache_nothing_is_kept_and_rows_share_a_batch() -> None:
    bench, ask = Bench(largest=4, cache_bytes=0), Ask(a_prompt(9, 100), 3)
    bench.run(*(Ask(a_prompt(first, 50), 3) for first in range(4)))
    assert len(bench.model.passes[-1]) == 4
    assert [bench.run(ask)[0].reused for _ in range(2)] == [0, 0]
