"""A single actor: how it receives, serves, fails and stops."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

import anyio
import pytest
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from arbiter.actors.actor import ActorContext, ConcurrentActor
from arbiter.actors.error_text import format_error
from arbiter.actors.journal import NoJournal
from arbiter.actors.mailboxes import Inbox, Mailboxes, open_mailboxes
from arbiter.actors.policies import DraftOnly
from arbiter.actors.registry import ProblemRegistry
from arbiter.actors.requests import RequestExecutor
from arbiter.actors.ring_setup import Models, RingSettings
from arbiter.protocols.errors import BackendError
from arbiter.protocols.messages import (
    AssemblerMail,
    Context,
    DraftStep,
    StepFailed,
    Task,
)
from arbiter.protocols.records import Transcript

Virtual = Callable[[Callable[[], Awaitable[None]]], None]


class Clerk(ConcurrentActor[DraftStep]):
    """Takes a second per message; fails on the problem ``bad``, and never ends on ``slow``."""

    name: ClassVar[str] = "clerk"

    def __init__(self, inbox: Inbox[DraftStep], context: ActorContext) -> None:
        super().__init__(inbox, context)
        self.served: list[str] = []

    async def serve(self, message: DraftStep) -> None:
        problem = message.context.task.id
        if problem == "bad":
            raise KeyError("a bug")
        await anyio.sleep(1000 if problem == "slow" else 1)
        self.served.append(problem)


def a_task(problem: str) -> Task:
    return Task(id=problem, transcript=Transcript("?"), policy=DraftOnly())


@dataclass
class Office:
    """A running clerk, its mailbox, the messages that it sends to the Assembler, and whether it has stopped."""

    clerk: Clerk
    registry: ProblemRegistry
    tasks: dict[str, Task]
    inbox: MemoryObjectSendStream[DraftStep]
    outbox: MemoryObjectReceiveStream[AssemblerMail]
    gone: anyio.Event

    async def send(self, problem: str, step: int = 0) -> None:
        task = self.tasks.get(problem) or a_task(problem)
        context = Context(task=task, step=step, transcript=task.transcript, max_tokens=10)
        await self.inbox.send(DraftStep(context=context, cause="why"))

    async def work(self, *, task_status: TaskStatus[None]) -> None:
        await self.clerk.run(task_status=task_status)
        self.gone.set()


@asynccontextmanager
async def an_office(*problems: str) -> AsyncGenerator[Office]:
    registry, opened, journal = ProblemRegistry(), {problem: a_task(problem) for problem in problems}, NoJournal()
    for task in opened.values():
        registry.open(task)
    inbox, received = anyio.create_memory_object_stream[DraftStep](1)
    with inbox, received, open_mailboxes(10) as (routes, inboxes):
        settings, calls = RingSettings(0, "off", salvage=False), RequestExecutor(registry, journal)
        mailboxes = Mailboxes(routes, journal, registry.digest, lambda _: None)
        context = ActorContext(mailboxes, registry, calls, journal, Models(), settings, nobody, nobody)
        office = Office(Clerk(received, context), registry, opened, inbox, inboxes.assembler, anyio.Event())
        async with anyio.create_task_group() as tasks:
            await tasks.start(office.work)
            yield office
            tasks.cancel_scope.cancel()


def nobody(task: Task, reported: object) -> None:
    """Ignore it."""


def test_an_actor_that_has_started_receives(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_office("p") as office:
            await office.send("p")
            await anyio.sleep(1.5)
            assert office.clerk.served == ["p"]

    in_virtual_time(body)


def test_a_bug_is_told_to_the_assembler_with_its_place(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_office("bad") as office:
            await office.send("bad", step=4)
            failed = await office.outbox.receive()
            assert isinstance(failed, StepFailed)
            assert (failed.actor, failed.failed_kind, failed.error) == ("clerk", "draft_step", "KeyError: 'a bug'")
            assert (failed.context.task.id, failed.context.step, failed.cause) == ("bad", 4, "bad/4/draft_step")

    in_virtual_time(body)


def test_a_bug_fails_its_own_problem_alone(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_office("bad", "p", "q") as office:
            for problem in ("p", "bad", "q"):
                await office.send(problem)
            await anyio.sleep(1.5)
            assert sorted(office.clerk.served) == ["p", "q"]
            assert office.outbox.statistics().current_buffer_used == 1

    in_virtual_time(body)


def test_a_message_that_takes_long_holds_up_no_other(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_office("slow", "p") as office:
            await office.send("slow")
            await office.send("p")
            await anyio.sleep(1.5)
            assert office.clerk.served == ["p"]

    in_virtual_time(body)


def test_a_message_for_a_closed_problem_is_not_served(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_office("p") as office:
            await office.send("gone")
            await office.send("p")
            await anyio.sleep(1.5)
            assert office.clerk.served == ["p"]

    in_virtual_time(body)


def test_closing_a_problem_ends_its_service_in_silence(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_office("p", "q") as office:
            await office.send("p")
            await office.send("q")
            await anyio.sleep(0.5)
            office.registry.close(office.tasks["p"])
            await anyio.sleep(5)
            assert office.clerk.served == ["q"]
            assert office.outbox.statistics().current_buffer_used == 0

    in_virtual_time(body)


def test_an_actor_ends_once_its_mailbox_is_closed_and_all_is_served(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_office("p") as office:
            await office.send("p")
            office.inbox.close()
            await office.gone.wait()
            assert office.clerk.served == ["p"]

    in_virtual_time(body)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (ValueError(), "ValueError"),
        (caused(BackendError("no answer"), OSError("refused")), "BackendError: no answer, caused by OSError: refused"),
        (
            caused(BackendError("one"), caused(OSError("two"), ValueError("three"))),
            "BackendError: one, caused by OSError: two, caused by ValueError: three",
        ),
        (ExceptionGroup("group", [ValueError("first"), OSError("second")]), "ValueError: first"),
        (ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("deep")])]), "ValueError: deep"),
        (
            ExceptionGroup("group", [caused(BackendError("one"), OSError("two"))]),
            "BackendError: one, caused by OSError: two",
        ),
        (
            caused(BackendError("one"), ExceptionGroup("group", [OSError("two")])),
            "BackendError: one, caused by OSError: two",
        ),
    ],
)
def test_an_error_is_told_with_its_causes_the_outermost_first(error: Exception, text: str) -> None:
    assert format_error(error) == text


def test_an_error_is_told_in_one_line() -> None:
    assert "\n" not in format_error(ValueError("first line\nsecond line"))


@pytest.mark.parametrize("cause", [TimeoutError(), OSError("connection refused"), OSError("refused")])
def test_a_cause_that_adds_nothing_is_left_out(cause: Exception) -> None:
    error = BackendError("no answer: connection refused")
    error.__cause__ = cause
    assert format_error(error) == "BackendError: no answer: connection refused"
