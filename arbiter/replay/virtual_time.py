"""Virtual time: the clock jumps as soon as nobody has anything to do, and every run is the same."""

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any


def run_virtually(main: Callable[[], Awaitable[None]]) -> None:
    """Run ``main`` on trio under a clock that jumps, with a scheduler that takes tasks in a fixed order.

    Ctrl-C comes out as the ``KeyboardInterrupt`` that it is, and in no group.
    """
    import trio
    from trio.testing import MockClock  # imported when used: it brings pytest along where that is installed

    # trio offers no public way to fix the order in which it runs tasks that are ready at the same time
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
