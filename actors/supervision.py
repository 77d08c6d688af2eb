"""Services that run beside a block of code, for as long as it does."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def services() -> AsyncGenerator[TaskGroup]:
    """A task group that is cancelled when the block ends.

    An error of the block comes out as itself, not as one of a group; a service that crashes cancels the
    block, and its error comes out in a group.
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
