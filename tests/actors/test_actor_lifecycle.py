"""The lifecycle of an actor: when its hooks run, how often, and what happens to their errors."""

from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar

import anyio
import pytest
from anyio.abc import TaskStatus

from arbiter.actors.actor import STOP_SECONDS, Actor, ActorContext, ConcurrentActor, SequentialActor
from arbiter.actors.factories import ActorFactories
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.policies import RandomEscalation
from arbiter.actors.ring import open_ring
from arbiter.actors.ring_setup import Models
from arbiter.protocols.errors import ClosedError
from arbiter.protocols.messages import DrafterMail, EscalatorMail, Message, RouterMail, StepAccepted, StepDrafted, Task
from arbiter.protocols.records import Candidate, Limits, Usage

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
Mail = TypeVar("Mail", DrafterMail, RouterMail, EscalatorMail)

SECOND_FAILS = ["router starts", "drafter starts", "router stops"]
"""What three actors do if the second one fails to start."""


class Diary:
    """What the actors did, in order, and the errors that they raise at given entries."""

    def __init__(
        self,
        errors: dict[str, Exception] | None = None,
        seconds: float = 0.0,
        drafter: "type[OwnDrafter] | None" = None,
    ) -> None:
        self.entries: list[str] = []
        self._errors = errors or {}
        self._seconds = seconds
        self._drafter = drafter or OwnDrafter

    async def note(self, entry: str) -> None:
        """Record that ``entry`` begins, wait, and raise its error."""
        self.entries.append(entry)
        await anyio.sleep(self._seconds)
        if error := self._errors.get(entry):
            raise error

    @property
    def factories(self) -> ActorFactories:
        return ActorFactories(
            drafter=lambda inbox, context: self._drafter(inbox, context, self),
            router=lambda inbox, context: OwnRouter(inbox, context, self),
            escalator=lambda inbox, context: OwnEscalator(inbox, context, self),
        )


class Noting(Actor[Mail]):
    """Records when its hooks run."""

    def __init__(self, inbox: Inbox[Mail], context: ActorContext, diary: Diary) -> None:
        super().__init__(inbox, context)
        self._diary = diary

    async def on_start(self) -> None:
        await self._diary.note(f"{self.name} starts")
        self._diary.entries.append(f"{self.name} has started")

    async def on_stop(self) -> None:
        await self._diary.note(f"{self.name} stops")
        self._diary.entries.append(f"{self.name} has stopped")


class OwnDrafter(Noting[DrafterMail], ConcurrentActor[DrafterMail]):
    """A drafter without a model."""

    name: ClassVar[str] = "drafter"

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        diary = self._diary

        class Status:
            def started(self, value: None = None) -> None:
                diary.entries.append("drafter is ready")
                task_status.started()

        await super().run(task_status=Status())

    async def serve(self, message: DrafterMail) -> None:
        await self._diary.note("drafter serves")
        written = Candidate("draft", "written", "end", Usage(), 0.0)
        await self._mailboxes.to_router(StepDrafted(message.context, message.id, written), self.name)


class OwnRouter(Noting[RouterMail], SequentialActor[RouterMail]):
    """A router that keeps every draft."""

    name: ClassVar[str] = "router"

    async def serve(self, message: RouterMail) -> None:
        assert isinstance(message, StepDrafted)
        chosen = StepAccepted(message.context, message.id, "keep_draft", message.draft)
        await self._mailboxes.to_assembler(chosen, self.name)


class OwnEscalator(Noting[EscalatorMail], ConcurrentActor[EscalatorMail]):
    """An escalator that is never used."""

    name: ClassVar[str] = "escalator"

    async def serve(self, message: EscalatorMail) -> None:
        """It is never called."""


def a_task_to_route(a_task: Tasks) -> Task:
    return a_task(policy=RandomEscalation(0.5), limits=Limits(max_steps=1))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_actor_starts_before_it_is_ready_serves_and_stops(backend: str, a_task: Tasks) -> None:
    diary = Diary()

    async def body() -> None:
        async with open_ring(Models(), factories=diary.factories) as ring:
            diary.entries.append("ring is open")
            assert (await ring.solve(a_task_to_route(a_task))).finish_reason == "answered"

    anyio.run(body, backend=backend)
    assert [entry for entry in diary.entries if entry.startswith(("drafter", "ring"))] == [
        "drafter starts",
        "drafter has started",
        "drafter is ready",
        "ring is open",
        "drafter serves",
        "drafter stops",
        "drafter has stopped",
    ]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_error_of_on_start_comes_out_of_opening_the_ring_as_itself_and_stops_who_has_started(backend: str) -> None:
    error = ValueError("no disk")
    diary = Diary({"drafter starts": error})

    async def body() -> None:
        async with open_ring(Models(), factories=diary.factories):
            raise AssertionError("the ring must not open")

    with pytest.raises(ValueError, match="no disk") as raised:
        anyio.run(body, backend=backend)
    assert raised.value is error
    assert [entry for entry in diary.entries if " has " not in entry] == SECOND_FAILS


class BlockError(Exception):
    """An error of the block."""


@pytest.mark.parametrize("leaves", ["quietly", "by an error", "cancelled"])
def test_each_actor_stops_exactly_once_however_the_ring_is_left(leaves: str, in_virtual_time: Virtual) -> None:
    diary = Diary(seconds=1.0)

    async def use() -> None:
        async with open_ring(Models(), factories=diary.factories):
            if leaves == "by an error":
                raise BlockError
            if leaves == "cancelled":
                await anyio.sleep_forever()

    async def body() -> None:
        with anyio.move_on_after(10.0) as scope:
            if leaves == "by an error":
                with pytest.raises(BlockError):
                    await use()
            else:
                await use()
        assert scope.cancelled_caught == (leaves == "cancelled")

    in_virtual_time(body)
    ends = ["drafter has stopped", "escalator has stopped", "router has stopped"]
    assert sorted(entry for entry in diary.entries if entry.endswith("stopped")) == ends
    assert sum(entry.endswith("stops") for entry in diary.entries) == 3


def test_an_actor_that_is_cancelled_while_it_starts_does_not_stop(in_virtual_time: Virtual) -> None:
    """It had not started, so ``on_stop`` does not run."""
    diary = Diary(seconds=10.0)

    async def body() -> None:
        with anyio.move_on_after(15.0):
            async with open_ring(Models(), factories=diary.factories):
                raise AssertionError("the ring must not open")

    in_virtual_time(body)
    assert [entry for entry in diary.entries if " has " not in entry] == SECOND_FAILS


def test_callers_are_answered_before_the_actors_stop(in_virtual_time: Virtual, a_task: Tasks) -> None:
    diary = Diary(seconds=1.0)

    async def body() -> None:
        async with anyio.create_task_group() as tasks, open_ring(Models(), factories=diary.factories) as ring:

            async def call() -> None:
                with pytest.raises(ClosedError):
                    await ring.solve(a_task_to_route(a_task))
                diary.entries.append("caller is answered")

            tasks.start_soon(call)
            await anyio.sleep(0.5)

    in_virtual_time(body)
    assert diary.entries.index("caller is answered") < diary.entries.index("drafter has stopped")


class EndlessDiary(Diary):
    """A ring whose drafter never finishes ``on_stop``."""

    async def note(self, entry: str) -> None:
        self.entries.append(entry)
        if entry == "drafter stops":
            await anyio.sleep_forever()


def test_a_stop_that_takes_too_long_is_cancelled_and_logged(
    in_virtual_time: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    diary = EndlessDiary()

    async def body() -> None:
        async with open_ring(Models(), factories=diary.factories):
            closing = anyio.current_time()
        assert anyio.current_time() - closing == STOP_SECONDS

    in_virtual_time(body)
    assert "drafter has stopped" not in diary.entries
    [record] = caplog.records
    assert (record.levelname, record.message) == ("WARNING", "on_stop took too long and was cancelled")
    assert vars(record)["actor"] == "drafter"


def test_an_error_of_on_stop_is_logged_and_hides_neither_the_result_nor_another_error(
    in_virtual_time: Virtual, a_task: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    diary = Diary({"drafter stops": OSError("the disk is gone")})
    finished: list[str] = []

    async def body() -> None:
        async with open_ring(Models(), factories=diary.factories) as ring:
            finished.append((await ring.solve(a_task_to_route(a_task))).finish_reason)
        with pytest.raises(BlockError):
            async with open_ring(Models(), factories=diary.factories):
                raise BlockError

    in_virtual_time(body)
    assert finished == ["answered"]
    assert [(record.levelname, record.message) for record in caplog.records] == [("ERROR", "on_stop failed")] * 2
    assert "the disk is gone" in caplog.text


class Crashing(OwnDrafter):
    """A drafter with a bug outside of serving messages."""

    async def _serve(self, message: Message) -> None:
        raise RuntimeError("the actor is broken")


def test_an_actor_that_crashes_stops_as_well(in_virtual_time: Virtual, a_task: Tasks) -> None:
    diary = Diary(drafter=Crashing)

    async def use() -> None:
        async with open_ring(Models(), factories=diary.factories) as ring:
            with pytest.raises(ClosedError):
                await ring.solve(a_task_to_route(a_task))

    async def body() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            await use()
        assert raised.group_contains(RuntimeError, match="the actor is broken")

    in_virtual_time(body)
    stops = sorted(entry for entry in diary.entries if "stops" in entry)
    assert stops == ["drafter stops", "escalator stops", "router stops"]
