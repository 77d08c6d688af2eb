"""The limit of concurrent requests: lower while the server is overloaded, with every change in the journal."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from arbiter.actors.requests import note_retry
from arbiter.actors.ring import Ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.events import Entry, LimitMoved
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, QueueDepth
from arbiter.protocols.records import Solution

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
InVirtualTime = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
Script = Callable[[GenerationRequest], Generation]


class Moves:
    """A journal that keeps the changes of limits."""

    kept = True
    threshold: float | None = None

    def __init__(self) -> None:
        self.moves: list[LimitMoved] = []

    async def write(self, entry: Entry) -> None:
        self.note(entry)

    def note(self, entry: Entry) -> None:
        if isinstance(entry.payload, LimitMoved):
            self.moves.append(entry.payload)

    def recall(self, call: str) -> None:
        """Return None."""

    def decided(self, place: str) -> None:
        """Return None."""

    def spent(self, start: str) -> float:
        return 0.0


class Counted:
    """A generator that counts its concurrent requests. The first ``refusing`` requests are refused once, as busy."""

    def __init__(self, script: Script, refusing: int = 0) -> None:
        self._model = ScriptedGenerator(script, seconds=1.0)
        self._refusing = refusing
        self.running = 0
        self.most: list[int] = []

    async def generate(self, request: GenerationRequest) -> Generation:
        self.running += 1
        self.most.append(self.running)
        try:
            if self._refusing:
                self._refusing -= 1
                await anyio.sleep(0.1)
                note_retry(1, 1.0, "429", busy=True)
                await anyio.sleep(1)
            return await self._model.generate(request)
        finally:
            self.running -= 1


class Queue:
    """Reports the given queue lengths one after another, and then the last one again."""

    def __init__(self, *lengths: int | None) -> None:
        self._lengths = list(lengths)

    async def waiting(self) -> int | None:
        return self._lengths.pop(0) if len(self._lengths) > 1 else self._lengths[0]


@pytest.fixture
def run(in_virtual_time: InVirtualTime, a_task: Tasks, open_ring: OpenRing) -> Callable[..., list[LimitMoved]]:
    """The changes of the limit while 64 problems are solved concurrently, with at most 16 requests to the draft."""

    def solve(draft: Generator, queue_depth: QueueDepth | None = None, adaptive: bool = True) -> list[LimitMoved]:
        journal, solutions = Moves(), list[Solution]()

        async def body() -> None:
            models = Models(draft=ModelHandle[Generator](draft, 16, adaptive=adaptive, queue_depth=queue_depth))

            async def done(solution: Solution) -> None:
                solutions.append(solution)

            async with open_ring(models, journal=journal) as ring:
                await solve_all(ring, [a_task(str(number)) for number in range(64)], 64, done)

        in_virtual_time(body)
        assert [solution.finish_reason for solution in solutions] == ["answered"] * 64
        return journal.moves

    return solve


Run = Callable[..., list[LimitMoved]]


def test_a_server_that_refuses_gets_fewer_requests_and_later_more_again(run: Run, three_steps: Script) -> None:
    draft = Counted(three_steps, refusing=16)
    moves = run(draft)
    assert (moves[0].model, moves[0].limit, moves[0].reason) == ("draft", 11, "refused")
    assert {move.reason for move in moves[1:]} == {"room"}
    assert max(draft.most[:16]) == 16
    assert max(draft.most[16:40]) <= 13


def test_a_server_that_lets_too_many_wait_gets_fewer_requests(run: Run, three_steps: Script) -> None:
    moves = run(Counted(three_steps), Queue(0, 9, 9, 2))
    assert [(move.limit, move.reason) for move in moves[:2]] == [(11, "queue"), (7, "queue")]


def test_a_server_that_bears_them_all_gets_them_all(run: Run, three_steps: Script) -> None:
    assert run(Counted(three_steps), Queue(0)) == []


def test_a_pinned_number_stays(run: Run, three_steps: Script) -> None:
    draft = Counted(three_steps, refusing=16)
    assert run(draft, Queue(100), adaptive=False) == []
    assert max(draft.most[16:]) == 16
