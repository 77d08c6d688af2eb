"""Background tasks that run as long as a block of code."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def services() -> AsyncGenerator[TaskGroup]:
    """Yield a task group that is cancelled when the block ends.

    An error of the block is raised unchanged, not in an ``ExceptionGroup``. A task that crashes cancels the block, and
    its error is raised in an ``ExceptionGroup``.
    """
    failure: Exception | KeyboardInterrupt | SystemExit | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield tasks
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            failure = error
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
