"""Shared by all tests: tasks, and a clock that jumps as soon as all tasks wait for time."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from arbiter.actors.policies import DraftOnly
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.records import Transcript
from tests import hypothesis_profiles

hypothesis_profiles.register()
for _name in ("COLUMNS", "LINES"):  # readline sets them in workers of xdist, and consoles would keep that size
    os.environ.pop(_name, None)
# Several processes share few cores. Threads of torch would wait for each other without giving up their core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

Body = Callable[[], Awaitable[None]]

FOR_EVER = 1e9  # virtual seconds, longer than any scripted run: whoever reaches it waits for nothing


@pytest.fixture(scope="session")
def in_virtual_time() -> Callable[[Body], None]:
    """Run an async function to its end; a deadlock raises ``TooSlowError`` at once."""

    def run(body: Body) -> None:
        async def guarded() -> None:
            with trio.fail_after(FOR_EVER):
                await body()

        trio.run(guarded, clock=MockClock(autojump_threshold=0))

    return run


@pytest.fixture(scope="session")
def a_task() -> Callable[..., Task]:
    """A task with the fields that matter to a test."""

    def build(problem: str = "p", policy: Policy | None = None, **fields: Any) -> Task:
        return Task(id=problem, transcript=Transcript(f"question {problem}"), policy=policy or DraftOnly(), **fields)

    return build
