"""Run a model in process for many requests together: continuous batching, and keys and values that are kept.

A request is a ``Row``. Rows join and leave between two passes of the model. A pass reads one token of each row that is
writing, and up to ``_CHUNK`` tokens of rows that are still reading their text. The keys and values of each text are
kept in a ``PrefixStore``, so a row whose text begins like an earlier one reads only the rest.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from arbiter.backends.in_process.prefix_store import PrefixStore
from arbiter.backends.in_process.sequence_model import Chunk, SequenceModel
from arbiter.backends.in_process.worker import Deliver, Job, Take, Worker
from arbiter.protocols.model_traits import KVMemory

_CHUNK = 512  # the most tokens of a pass that belong to rows which are reading


class Outputs:
    """The outputs of a model at some tokens: ``[tokens, outputs]`` in float32, and the hidden states they come from."""

    def __init__(self, values: Tensor, hidden: Tensor) -> None:
        self.values = values
        self.hidden = hidden

    def part(self, first: int, count: int) -> "Outputs":
        """Return those of ``count`` tokens from index ``first`` on."""
        return Outputs(self.values[first : first + count], self.hidden[first : first + count])

    @cached_property
    def choices(self) -> list[int]:
        """The index of the largest output at each token."""
        return cast("list[int]", self.values.argmax(-1).tolist())  # pyright: ignore[reportUnknownMemberType]

    @cached_property
    def logprobs(self) -> Tensor:
        """The logarithms of the softmax."""
        return torch.log_softmax(self.values, -1)

    @cached_property
    def entropies(self) -> list[float]:
        """The entropy of the softmax at each token, in nats."""
        chances = self.logprobs.exp()
        return cast("list[float]", torch.xlogy(chances, chances).sum(-1).neg().tolist())  # pyright: ignore[reportUnknownMemberType]


class Row(Protocol):
    """A request while the model works on it. The engine sets ``read`` and ``reused``.

    - ``ids`` are the tokens of its text; the model has read the first ``read`` of them.
    - ``shown`` is for how many of the last ``ids`` the outputs are needed, 1 or more.
    - ``longest`` is the most tokens that ``ids`` may reach.
    - ``reused`` is for how many tokens the keys and values were kept from earlier rows.
    """

    ids: list[int]
    read: int
    shown: int
    longest: int
    reused: int

    def advance(self, outputs: Outputs, first: int) -> bool:
        """Take the outputs of the shown tokens, which begin at index ``first`` of ``outputs``.

        Return True if the row is finished; else append to ``ids`` what to read next. To discard tokens that were read,
        cut ``ids`` and lower ``read``.
        """
        ...

    def answer(self) -> Any:  # noqa: ANN401 - the port's answer
        """Return the answer of a finished row."""
        ...


class Engine:
    """Runs ``model`` for the rows that ``start`` makes of requests; ``start`` may raise an error for its request.

    At most ``largest_batch`` rows run together. Keys and values take at most ``cache_bytes``, unless a single row needs
    more: texts that were read get what the rows leave. With 0, no text is kept, and rows take what they need. While
    slots grow, the old ones exist as well, and so do the texts that are written into them. A pass takes place within
    ``turn``, if there is one. Run ``worker`` while the engine is in use.
    """

    def __init__(
        self,
        model: SequenceModel,
        start: Callable[[Any], Row],
        largest_batch: int,
        cache_bytes: int,
        turn: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._model = model
        self._start = start
        self._largest = largest_batch
        self._limit = cache_bytes
        self._most = cache_bytes or math.inf  # for rows
        self._turn = turn or nullcontext()
        self._store = PrefixStore(cache_bytes)
        self._rows: list[tuple[Job, Row]] = []  # by slot
        self._kept: dict[int, list[Tensor]] = {}  # what rows that are joining reuse, by id(row)
        self._partial: dict[int, list[Outputs]] = {}  # outputs of rows that are read in several passes, by id(row)
        self._next: tuple[Job, Row] | None = None  # waits for memory
        self.passes = 0
        self._peak = 0  # the largest ``kv_bytes`` so far
        self.worker = Worker(self._work)

    @property
    def kv_bytes(self) -> int:
        """The memory of keys and values, in bytes: those of the rows, and those kept for later rows."""
        return self._store.bytes + (self._model.slots.bytes if self._model.slots else 0)

    @property
    def kv_memory(self) -> KVMemory:
        """The largest ``kv_bytes`` so far, and the limit."""
        return KVMemory(self._peak, self._limit)

    @torch.inference_mode()
    def _work(self, take: Take, deliver: Deliver) -> None:
        try:
            while True:
                self._drop_cancelled()
                failed = self._admit(take)
                if failed:
                    deliver(failed)
                elif not self._rows:
                    return
                if self._rows:
                    with self._turn:
                        finished = self._pass()
                    if finished:
                        deliver(finished)
        except BaseException:
            self._reset()  # an error may be one of memory: the next requests begin without what is kept
            raise

    def _reset(self) -> None:
        self._rows.clear()
        self._kept.clear()
        self._partial.clear()
        self._next = None
        self._store = PrefixStore(self._limit)
        if self._model.slots is not None:
            self._model.slots.clear()

    def _drop_cancelled(self) -> None:
        for slot in reversed(range(len(self._rows))):
            if self._rows[slot][0].cancelled:
                self._leave(slot)

    def _admit(self, take: Take) -> list[tuple[Job, Exception]]:
        """Let waiting requests join. Return those that failed, with their errors."""
        failed: list[tuple[Job, Exception]] = []
        running = len(self._rows)
        unread = sum(len(row.ids) - row.read for _, row in self._rows)
        while len(self._rows) < self._largest and unread < _CHUNK + len(self._rows):
            if self._next is None:
                job = take()
                if job is None:
                    break
                try:
                    self._next = job, self._start(job.ask)
                except Exception as error:  # only this request fails
                    failed.append((job, error))
                    continue
            if self._next[0].cancelled:
                self._next = None
                continue
            if self._rows and not self._fits(self._next[1]):
                break
            self._join(*self._next)
            unread += len(self._next[1].ids) - self._next[1].read
            self._next = None
        self._load(running)
        return failed

    def _fits(self, row: Row) -> bool:
        """Return whether ``row`` can join the others within the memory for rows."""
        slots = self._model.slots
        longest = max(row.longest, *(other.longest for _, other in self._rows))
        return slots is None or slots.bytes_for(self._rounded(len(self._rows) + 1), longest) <= self._most

    def _join(self, job: Job, row: Row) -> None:
        """Let a row take the next slot. ``_load`` then writes what is kept of its text into the slot."""
        self._rows.append((job, row))
        if self._model.slots is not None:
            self._kept[id(row)] = kept = self._store.find(row.ids, len(row.ids) - row.shown)
            row.read = row.reused = sum(piece.shape[3] for piece in kept)

    def _load(self, first: int) -> None:
        """Make room for the rows that joined, from slot ``first`` on, and write what is kept of their texts."""
        slots, joined = self._model.slots, self._rows[first:]
        if slots is None or not joined:
            return
        self._reserve(max(len(row.ids) for _, row in joined))
        for slot, (_, row) in enumerate(joined, first):
            kept = self._kept.pop(id(row))
            if kept:
                slots.load(slot, 0, torch.cat(kept, 3))

    def _reserve(self, tokens: int) -> None:
        """Make room for ``tokens`` tokens per row, and keep no more texts than the rest of the memory holds."""
        slots = self._model.slots
        if slots is None:
            return
        rows = self._rounded(len(self._rows))
        tokens = max(tokens, *(row.read for _, row in self._rows))
        self._store.limit = max(self._limit - max(slots.bytes, slots.bytes_for(rows, tokens)), 0)
        self._store.trim()
        slots.reserve(rows, tokens, self._most / 2)  # beyond that, slots are no larger than they must be
        self._store.limit = max(self._limit - slots.bytes, 0)
        self._peak = max(self._peak, self.kv_bytes)

    def _rounded(self, rows: int) -> int:
        """Return the number of slots for ``rows`` rows: a power of two, so that slots seldom grow."""
        return min(1 << (rows - 1).bit_length(), self._largest)

    def _pass(self) -> list[tuple[Job, Any]]:
        """Read the next tokens of all rows. Return the rows that are finished, with their answers or errors."""
        chunks = self._chunks()
        self._reserve(max(chunk.start + len(chunk.ids) for chunk in chunks))
        self.passes += 1
        hidden = self._model.read(chunks)
        outputs, first = Outputs(self._model.outputs(hidden), hidden), 0
        ended: list[tuple[int, Any]] = []
        for chunk in chunks:
            row = self._rows[chunk.slot][1]
            row.read += len(chunk.ids)
            if row.read == len(row.ids):
                answer = self._advance(row, outputs, first)
                if answer is not None:
                    ended.append((chunk.slot, answer))
            elif chunk.shown:
                self._partial.setdefault(id(row), []).append(outputs.part(first, chunk.shown))
            first += chunk.shown
        return [(self._finish(slot), answer) for slot, answer in reversed(ended)]

    def _chunks(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        budget = _CHUNK
        for slot, (_, row) in enumerate(self._rows):
            count = len(row.ids) - row.read
            if count > 1 and self._model.slots is not None:
                count = min(count, budget)
                budget -= count
            if count:
                end = row.read + count
                shown = max(end - max(row.read, len(row.ids) - row.shown), 0)
                chunks.append(Chunk(slot, row.read, row.ids[row.read : end], shown))
        return chunks

    def _advance(self, row: Row, outputs: Outputs, first: int) -> Any:  # noqa: ANN401
        """Let the row take its outputs. Return its answer or error if it is finished, else None."""
        earlier = self._partial.pop(id(row), None)
        if earlier is not None:
            rest = row.shown - sum(len(part.values) for part in earlier)
            parts = [*earlier, outputs.part(first, rest)]
            values, hidden = torch.cat([part.values for part in parts]), torch.cat([part.hidden for part in parts])
            outputs, first = Outputs(values, hidden), 0
        try:
            return row.answer() if row.advance(outputs, first) else None
        except Exception as error:  # only this request fails
            return error

    def _finish(self, slot: int) -> Job:
        job, row = self._rows[slot]
        slots = self._model.slots
        if slots is not None:
            read = row.ids[: row.read]
            stored = self._store.stored(read)
            self._store.add(read, stored, slots.save(slot, stored, row.read))
            self._peak = max(self._peak, self.kv_bytes)
        self._leave(slot)
        return job

    def _leave(self, slot: int) -> None:
        """Free the slot. The last row moves into it, so that the slots in use stay the first ones."""
        self._partial.pop(id(self._rows[slot][1]), None)
        last = self._rows.pop()
        if slot < len(self._rows):
            self._rows[slot] = last
            self._model.move(len(self._rows), slot, last[1].read)
