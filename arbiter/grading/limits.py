"""Limit the CPU time and the memory of a worker process."""

import math
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress

MEMORY = 4 << 30
_AGAIN = 0.5  # code that catches everything is interrupted again
GRACE = 5  # seconds: one long operation cannot be interrupted: the system then ends the process


class OutOfTime(BaseException):
    """The CPU time is used up. It is no ``Exception``, so that a library that catches those does not catch it."""


@contextmanager
def cpu_limit(seconds: float) -> Generator[None]:
    """Raise ``OutOfTime`` in the block after ``seconds`` of CPU time of this process. Call it in the main thread.

    Time in which other processes have the CPU does not count. A system without such timers has no limit.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGPROF, _out_of_time)
    _limit_process(seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        _limit_process(None)


def over_limit(seconds: float) -> str:
    """Return the reason of a verdict that needed more than its CPU time."""
    return f"comparing needs more than {seconds:g} s of CPU time"


def limit_memory() -> None:
    """Limit the memory of this process, where the system has such a limit."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_process(seconds: float | None) -> None:
    """Have the system end this process after ``seconds`` more and a grace; None removes that limit."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = hard if seconds is None else math.ceil(used.ru_utime + used.ru_stime + seconds) + GRACE
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _out_of_time(_signal: int, _frame: object) -> None:
    raise OutOfTime
