"""A scripted model for the engine: a next token follows from all tokens that its slot holds, so wrong contents show."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch is typed in part)

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import msgspec
import torch
from torch import Tensor

from arbiter.actors.supervision import services
from arbiter.backends.in_process.continuous_batching import Engine, Outputs
from arbiter.backends.in_process.kv_slots import KVSlots
from arbiter.backends.in_process.sequence_model import Chunk

VOCABULARY = 50
CONTEXT = 2048
TOKEN_BYTES = 8
PATIENCE = 30  # seconds, never waited for unless something hangs
PLENTY = 10**9


def following(ids: Sequence[int]) -> int:
    """Return the token after ``ids``."""
    return hash(tuple(ids)) % VOCABULARY


class Ask(msgspec.Struct, frozen=True):
    """A request to write ``length`` tokens after ``prompt``, and to show the choices at its last ``shown`` tokens."""

    prompt: tuple[int, ...]
    length: int = 1
    shown: int = 1
    fails: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What was written, the choices at the shown tokens of the prompt, and how many tokens were reused."""

    written: tuple[int, ...]
    choices: tuple[int, ...]
    reused: int = 0


def expected(ask: Ask) -> Answer:
    """Return the answer to a request that is alone, with no reuse."""
    ids = [*ask.prompt]
    first = len(ids) - ask.shown + 1
    choices = tuple(following(ids[:end]) for end in range(first, len(ids) + 1))
    while len(ids) < len(ask.prompt) + ask.length:
        ids.append(following(ids))
    return Answer(tuple(ids[len(ask.prompt) :]), choices)


class ScriptedRow:
    """A row of the engine for an ``Ask``."""

    def __init__(self, ask: Ask) -> None:
        if ask.fails == "start":
            raise ValueError("start")
        self.ids = [*ask.prompt]
        self.read = self.reused = 0
        self.shown = ask.shown
        self.longest = len(ask.prompt) + ask.length - 1
        self._ask = ask
        self._choices: tuple[int, ...] = ()
        self._written: list[int] = []

    def advance(self, outputs: Outputs, first: int) -> bool:
        choices = outputs.choices[first : first + self.shown]
        self._choices = self._choices or tuple(choices)
        self.shown = 1
        self._written.append(choices[-1])
        if self._ask.fails == "advance" and len(self._written) == 2:
            raise ValueError("advance")
        if len(self._written) == self._ask.length:
            return True
        self.ids.append(choices[-1])
        return False

    def answer(self) -> Answer:
        if self._ask.fails == "answer":
            raise ValueError("answer")
        return Answer(tuple(self._written), self._choices, self.reused)


class ScriptedModel:
    """A ``SequenceModel`` whose slots hold the tokens that were read. ``before`` is called at each pass."""

    context = CONTEXT

    def __init__(self) -> None:
        self.slots = KVSlots(1, 1, 1, CONTEXT, torch.float32, torch.device("cpu"))
        self.passes: list[list[Chunk]] = []
        self.before: Callable[[Sequence[Chunk]], None] = lambda _: None

    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        self.passes.append([*chunks])
        self.before(chunks)
        assert len({chunk.slot for chunk in chunks}) == len(chunks)
        found: list[int] = []
        for chunk in chunks:
            end = chunk.start + len(chunk.ids)
            self.slots.layers[0, chunk.slot, :, chunk.start : end, 0] = torch.tensor(chunk.ids, dtype=torch.float32)
            held = [int(token) for token in self.slots.layers[0, chunk.slot, 0, :end, 0].tolist()]
            assert self.slots.layers[0, chunk.slot, 1, :end, 0].tolist() == held
            found.extend(following(held[:stop]) for stop in range(end - chunk.shown + 1, end + 1))
        return torch.tensor(found, dtype=torch.long)

    def outputs(self, hidden: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(hidden, VOCABULARY).float()

    def move(self, source: int, target: int, tokens: int) -> None:
        self.slots.move(source, target, tokens)


class Bench:
    """An engine over a scripted model, and the answer or error of each request."""

    def __init__(self, largest: int = 8, cache_bytes: int = PLENTY) -> None:
        self.model = ScriptedModel()
        self.engine = Engine(self.model, ScriptedRow, largest, cache_bytes)
        self.answers: dict[Ask, Any] = {}

    async def ask(self, ask: Ask) -> None:
        try:
            self.answers[ask] = await self.engine.worker.submit(ask)
        except Exception as error:
            self.answers[ask] = error

    def arrival(self, *asks: Ask) -> Callable[[], None]:
        """Return what queues ``asks`` while the engine runs."""

        def arrive() -> None:
            for ask in asks:
                self.tasks.start_soon(self.ask, ask)

        return arrive

    def run(self, *asks: Ask, at: dict[int, Callable[[], None]] | None = None) -> list[Any]:
        """Queue ``asks`` together, run them, and return their answers.

        ``at`` maps numbers of passes to what happens in the event loop just before them. All that it starts runs as
        far as it can before the pass continues.
        """

        async def settle(happens: Callable[[], None]) -> None:
            happens()
            await anyio.wait_all_tasks_blocked()

        def before(_: Sequence[Chunk]) -> None:
            happens = (at or {}).get(len(self.model.passes))
            if happens is not None:
                anyio.from_thread.run(settle, happens)

        if at is not None:
            self.model.before = before
        anyio.run(self._serve, [partial(self.ask, ask) for ask in asks])
        return [self.answers.get(ask) for ask in asks]

    async def _serve(self, asks: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
        with anyio.fail_after(PATIENCE):
            async with services() as service, anyio.create_task_group() as self.tasks:
                for ask in asks:
                    self.tasks.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                await service.start(self.engine.worker.run)
