"""Run a command and leave none of its processes behind: ``python process_guard.py PARENT GRACE COMMAND …``.

A server starts child processes, which would survive when it is killed, or when Arbiter is. The guard is the parent of
the command and inherits its orphaned children. It ends all of them when the command ends, when it receives TERM or INT,
or when its own parent process has ended for any reason. TERM and INT are passed on to the command, and KILL follows
after GRACE seconds. The exit status is that of the command. The guard runs as a file and imports only the standard
library.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

_LEFT_SECONDS = 5.0  # for killed processes to end
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SIGNALS = (*_ENDING, signal.SIGCHLD, signal.SIGALRM)
_NOT_FOUND = 127


def main(parent: int, grace: float, command: list[str]) -> int:
    """Run ``command`` until it or the process ``parent`` ends.

    Return its exit status, or 128 plus the number of the signal that ended it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:  # the parent ended before its end could send a signal
        return 128 + signal.SIGTERM
    child = os.fork()
    if child == 0:
        _become(command)
    with contextlib.suppress(OSError):  # the child does the same; either may be first
        os.setpgid(child, child)
    return _until_it_ends(child, grace)


def prctl(option: int, value: int) -> None:
    """Call Linux's ``prctl``. Elsewhere it does nothing: a server then survives if the guard receives KILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _become(command: list[str]) -> None:
    try:
        os.setpgid(0, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # if the guard itself is killed
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.execvp(command[0], command)  # noqa: S606 - running the given command is the purpose
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(_NOT_FOUND)


def _until_it_ends(child: int, grace: float) -> int:
    while True:
        received = signal.sigwait(_SIGNALS)
        if received in _ENDING:
            # INT goes to the whole group, as from a terminal. TERM goes only to the command: an engine whose workers
            # end first treats that as a crash, and investigates it for some seconds
            send = os.killpg if received == signal.SIGINT else os.kill
            _unless_gone(lambda send=send, number=received: send(child, number))
            signal.setitimer(signal.ITIMER_REAL, grace)
        elif received == signal.SIGALRM:
            _signal_group(child, signal.SIGKILL)
        status = _reaped().get(child)
        if status is not None:
            _end_the_rest(child)
            return status if status >= 0 else 128 - status


def _reaped() -> dict[int, int]:
    """Return the exit statuses of the children that ended, by process id. A negative one is a signal."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    return ended


def _end_the_rest(child: int) -> None:
    """Kill all processes that the command left behind, and wait for their end."""
    end = time.monotonic() + _LEFT_SECONDS
    while time.monotonic() < end:
        _signal_group(child, signal.SIGKILL)
        for orphan in _children():
            _unless_gone(lambda pid=orphan: os.kill(pid, signal.SIGKILL))
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.02)


def _children() -> list[int]:
    """Return the ids of the child processes, in any group. Empty where the kernel does not list them."""
    with contextlib.suppress(OSError):
        me = os.getpid()
        return [int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text(encoding="ascii").split()]
    return []


def _signal_group(group: int, number: signal.Signals) -> None:
    _unless_gone(lambda: os.killpg(group, number))


def _unless_gone(kill: Callable[[], None]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        kill()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
