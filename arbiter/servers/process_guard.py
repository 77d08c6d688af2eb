"""Runs a command so that nothing of it stays: ``python process_guard.py PARENT GRACE COMMAND …``.

A server has children of its own, which outlive it when it is killed, and would outlive us. The guard stands between:
it inherits whatever the command leaves behind, ends all of it when the command ends, when it is told to (TERM or INT,
handed on; KILL after GRACE seconds), or when its own parent is gone, however that ended. Its exit status is the
command's. It is run as a file, and imports nothing but the standard library.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

_LEFT_SECONDS = 5.0  # for what is killed to be gone
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_HEARD = (*_ENDING, signal.SIGCHLD, signal.SIGALRM)
_NOT_FOUND = 127


def main(parent: int, grace: float, command: list[str]) -> int:
    """Run ``command`` until it or the process ``parent`` ends; its exit status, 128 and the signal if one ended it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:  # it was gone before it could be heard
        return 128 + signal.SIGTERM
    child = os.fork()
    if child == 0:
        _become(command)
    with contextlib.suppress(OSError):  # the child does the same; whoever comes first
        os.setpgid(child, child)
    return _until_it_ends(child, grace)


def prctl(option: int, value: int) -> None:
    """Linux alone has it; elsewhere a server stays if this program is killed with KILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _become(command: list[str]) -> None:
    try:
        os.setpgid(0, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # if the guard itself is killed
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        os.execvp(command[0], command)  # noqa: S606 - the command is what we are called for
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(_NOT_FOUND)


def _until_it_ends(child: int, grace: float) -> int:
    while True:
        heard = signal.sigwait(_HEARD)
        if heard in _ENDING:
            # INT goes to all, as from a terminal. TERM goes to the command alone: an engine whose parts end before it
            # takes that for a crash, and looks into it for some seconds
            tell = os.killpg if heard == signal.SIGINT else os.kill
            _unless_gone(lambda tell=tell, number=heard: tell(child, number))
            signal.setitimer(signal.ITIMER_REAL, grace)
        elif heard == signal.SIGALRM:
            _signal_group(child, signal.SIGKILL)
        status = _reaped().get(child)
        if status is not None:
            _end_the_rest(child)
            return status if status >= 0 else 128 - status


def _reaped() -> dict[int, int]:
    """The exit statuses of the children that ended, negative for a signal."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    return ended


def _end_the_rest(child: int) -> None:
    """Kill what the command left behind, and wait until it is gone."""
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
    """Processes whose parent is this one, whatever their group; none where the kernel does not tell."""
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
