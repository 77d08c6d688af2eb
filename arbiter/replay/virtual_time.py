"""Virtual time: the clock jumps to the next deadline when all tasks wait, and every run is the same."""

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any


def run_virtually(main: Callable[[], Awaitable[None]]) -> None:
    """Run ``main`` on trio with a jumping clock and a scheduler that runs tasks in a fixed order.

    Ctrl-C raises a plain ``KeyboardInterrupt``, not an exception group.
    """
    import trio
    from trio.testing import MockClock  # imported on use: it imports pytest if that is installed

    # trio has no public API to fix the order of tasks that are ready at the same time
    scheduler: Any = import_module("trio._core._run")
    shuffled, state = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(0)
    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            raise KeyboardInterrupt from group
        raise
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = shuffled
        scheduler._r.setstate(state)
