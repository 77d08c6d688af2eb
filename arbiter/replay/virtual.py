"""Virtual time: the clock jumps as soon as nobody has anything to do, and every run is the same."""

# pyright: reportPrivateUsage=false
# (trio offers no public way to fix the order in which it runs tasks that are ready at the same time)

from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio._core._run as scheduler
from trio.testing import MockClock


def run_virtually(main: Callable[[], Awaitable[None]]) -> None:
    """Run ``main`` on trio under a clock that jumps, with a scheduler that takes tasks in a fixed order."""
    scheduling: Any = scheduler
    shuffled = scheduling._ALLOW_DETERMINISTIC_SCHEDULING
    scheduling._ALLOW_DETERMINISTIC_SCHEDULING = True
    state = scheduling._r.getstate()
    scheduling._r.seed(0)
    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        scheduling._ALLOW_DETERMINISTIC_SCHEDULING = shuffled
        scheduling._r.setstate(state)
