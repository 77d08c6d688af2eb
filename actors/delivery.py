"""How messages reach the built-in actors: in the task of the problem's caller, without a mailbox.

A built-in actor that sends a message to another one puts it into the outbox of the problem. Whoever works on the
problem serves what is in its outbox, one message after another. So most steps need neither a switch between tasks nor a
queue. A message that would have to wait for another one of its problem is served in a new task.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from arbiter.actors.registry import OpenProblem, ProblemRegistry
from arbiter.protocols.messages import Message, Task

Serve = Callable[[Any], Awaitable[None]]
"""Serves one message of an open problem. An error fails the problem, and is not raised."""

MESSAGES_PER_CHECKPOINT = 32
"""After this number of messages, other tasks run, even if no model makes the problem wait."""


class DirectDelivery:
    """The outboxes of the open problems. ``tasks`` runs what cannot be served in the task of a caller."""

    def __init__(self, registry: ProblemRegistry, tasks: TaskGroup) -> None:
        self._registry = registry
        self._tasks = tasks
        self._serve: dict[str, Serve] = {}

    def connect(self, actor: str, serve: Serve) -> None:
        """Have ``serve`` serve the messages to ``actor``."""
        self._serve[actor] = serve

    def outbox(self, actor: str) -> Serve:
        """Return how a built-in actor sends to ``actor``: through the outbox of the message's problem."""

        async def deliver(message: Message) -> None:
            problem = self._registry.find(message.context.task)
            if problem is not None:
                problem.outbox.append((self._serve[actor], message))

        return deliver

    def new_task(self, actor: str) -> Serve:
        """Return how a replacement actor sends to ``actor``: the message is served in a new task."""

        async def deliver(message: Message) -> None:
            problem = self._registry.find(message.context.task)
            if problem is not None:
                self._tasks.start_soon(self._serve_in_new_task, problem, self._serve[actor], message)

        return deliver

    def flush(self, task: Task) -> None:
        """Serve what is in the outbox of ``task`` in new tasks, one each: its sender does other work."""
        problem = self._registry.find(task)
        while problem is not None and problem.outbox:
            self._tasks.start_soon(self._serve_in_new_task, problem, *problem.outbox.pop(0))

    async def drive(self, task: Task) -> None:
        """Serve the outbox of ``task`` until it is empty or the problem is closed.

        Call it within ``ProblemRegistry.work(task)``.
        """
        problem = self._registry.find(task)
        if problem is not None:
            await self._serve_all(problem)

    async def _serve_all(self, problem: OpenProblem) -> None:
        outbox, served = problem.outbox, 0
        while outbox:  # closing the problem empties it
            serve, message = outbox.pop(0)
            if outbox:
                self.flush(message.context.task)
            await serve(message)
            served += 1
            if served % MESSAGES_PER_CHECKPOINT == 0:
                await checkpoint()

    async def _serve_in_new_task(self, problem: OpenProblem, serve: Serve, message: Message) -> None:
        task = message.context.task
        if self._registry.find(task) is problem:
            with self._registry.work(task):
                await serve(message)
                await self._serve_all(problem)
