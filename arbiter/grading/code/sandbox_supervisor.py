"""The program in a sandbox that starts an answer with its limits, and judges each of its runs.

It runs as a file of its own, ``python -I -c SOURCE UID``, with the standard library alone. UID is the user that it
becomes before anything else, or -1. It reads a job as JSON from standard input, and writes one line of JSON to its
standard output, which the answer has not: the token of the job, whether the answer is right, and if not, why. A line
that says that it was stopped comes first.
"""

import ctypes
import decimal
import json
import os
import re
import resource
import secrets
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

_MIB = 1 << 20
_SHOWN = 200
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_PR_SET_DUMPABLE = 4

Json = dict[str, Any]


class Ended:
    """How a run of a program ended: its status, its output, and the limit that it passed (None if none)."""

    def __init__(self, status: int, output: bytes, errors: bytes, passed: str | None) -> None:
        self.status = status
        self.output = output
        self.errors = errors
        self.passed = passed

    def reason(self) -> str:
        """Return why the program ended, for a run that did not end well."""
        if self.passed:
            return self.passed
        said = self.errors.decode(errors="replace").strip().rpartition("\n")[2]
        if self.status < 0:
            return f"the program was killed by {signal.Signals(-self.status).name}"
        return f"the program failed: {said[:_SHOWN] or f'exit status {self.status}'}"


def become(uid: int) -> None:
    """Give up root for the user ``uid``, and close this process to others of that user."""
    if uid >= 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def tasks_of_this_user() -> int:
    """Return how many threads the user of this process has here, itself included."""
    count = 0
    for process in Path("/proc").glob("[0-9]*/task"):
        with suppress(OSError):  # it has ended
            if process.stat().st_uid == os.getuid() or process.parent.name == str(os.getpid()):
                count += sum(1 for _ in process.iterdir())
    return count


def set_limits(limits: Json, tasks: int) -> None:
    """Set the limits of the process that becomes the program."""

    def limit(what: int, value: int, hard: int | None = None) -> None:
        resource.setrlimit(what, (value, value if hard is None else hard))

    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_CPU, limits["seconds"], limits["seconds"] + 1)
    limit(resource.RLIMIT_AS, limits["memory"] * _MIB)
    limit(resource.RLIMIT_FSIZE, limits["file_size"] * _MIB)
    if limits["counts_processes"]:
        limit(resource.RLIMIT_NPROC, tasks + limits["processes"])


def memory_file(content: bytes) -> BinaryIO:
    """Return a file with this content that takes no room in a folder."""
    file = os.fdopen(os.memfd_create("arbiter"), "w+b")
    file.write(content)
    file.seek(0)
    return file


def run(command: list[str], given: bytes, limits: Json, descriptors: tuple[int, ...] = ()) -> Ended:
    """Run a program with ``given`` as its standard input until it ends or passes a limit."""
    with memory_file(given) as file:
        tasks = tasks_of_this_user() if limits["counts_processes"] else 0  # before the program
        process = subprocess.Popen(  # noqa: S603 - running it is the purpose
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            start_new_session=True,
            preexec_fn=lambda: set_limits(limits, tasks),
        )
    streams = [process.stdout, process.stderr]
    parts, passed = _followed(process, limits)
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    for stream in streams:
        if stream is not None:
            stream.close()
    spent = usage.ru_utime + usage.ru_stime
    stopped = process.returncode == -signal.SIGXCPU or (process.returncode and spent >= limits["seconds"])
    if passed is None and stopped:
        passed = f"the program needs more than {limits['seconds']} s of CPU time"
    return Ended(process.returncode, parts[0], parts[1], passed)


def _followed(process: "subprocess.Popen[bytes]", limits: Json) -> tuple[list[bytes], str | None]:
    """Read what a program writes until it ends. Return it, and the limit that the program passed."""
    ends = time.monotonic() + limits["wall_seconds"]
    most = limits["output"] * _MIB
    found: list[bytearray] = [bytearray(), bytearray()]
    exited = os.pidfd_open(process.pid)
    with selectors.DefaultSelector() as selector:
        for index, stream in enumerate((process.stdout, process.stderr)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, index)
        selector.register(exited, selectors.EVENT_READ, None)
        try:
            while True:
                ready = selector.select(max(0.0, ends - time.monotonic()))
                if not ready:
                    return [bytes(part) for part in found], f"the program did not end within {limits['wall_seconds']} s"
                gone = any(key.data is None for key, _ in ready)
                for key in [*selector.get_map().values()]:
                    if key.data is not None and not _read(key.fd, found[int(key.data)], most):
                        selector.unregister(key.fileobj)
                if sum(map(len, found)) > most:
                    return [bytes(part) for part in found], f"the program writes more than {limits['output']} MiB"
                if gone:
                    return [bytes(part) for part in found], None
        finally:
            os.close(exited)


def _read(descriptor: int, into: bytearray, most: int) -> bool:
    """Read what is there, a little more than ``most`` bytes at the most. Return whether more may come."""
    while len(into) <= most:
        try:
            part = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return True
        if not part:
            return False
        into += part
    return True


def judge_tests(job: Json, test: Json) -> str | None:
    """Return why the program fails its tests in Python; None if all of them end.

    The program's process gets a token after the tests, and must write it into a pipe of its own: what the program
    prints, and its exit status, prove nothing.
    """
    given, proof = os.pipe(), os.pipe()
    token = secrets.token_hex(16)
    os.write(given[1], token.encode())
    os.close(given[1])
    work = memory_file(json.dumps({"program": job["program"], "tests": test["tests"]}).encode())
    fds = (work.fileno(), given[0], proof[1])
    ended = run([sys.executable, "-I", "-c", job["harness"], *map(str, fds)], b"", job["limits"], fds)
    os.close(proof[1])
    os.close(given[0])
    work.close()
    os.set_blocking(proof[0], False)
    shown = bytearray()
    _read(proof[0], shown, 1 << 16)
    os.close(proof[0])
    if ended.passed:
        return ended.passed
    if bytes(shown) == token.encode():
        return None
    if ended.status < 0:
        return ended.reason()
    return shown.decode(errors="replace") or f"the program ended before its tests, with exit status {ended.status}"


def judge_output(job: Json, test: Json) -> str | None:
    """Return why the output of the program is wrong; None if it is right."""
    with memory_file(job["program"].encode()) as program:
        file = program.fileno()
        ended = run([sys.executable, "-I", f"/proc/self/fd/{file}"], test["input"].encode(), job["limits"], (file,))
    if ended.passed or ended.status:
        return ended.reason()
    output = ended.output.decode(errors="replace")
    if same_output(output, test["output"]):
        return None
    return f"the output is {_shown(output)}, not {_shown(test['output'])}"


def same_output(output: str, expected: str) -> bool:
    """Return whether two outputs agree line by line, without the spaces around a line; numbers by their values."""
    lines = [part.strip().splitlines() for part in (output, expected)]
    return len(lines[0]) == len(lines[1]) and all(
        one.split() == other.split() or (_numbers(one) is not None and _numbers(one) == _numbers(other))
        for one, other in zip(*lines, strict=True)
    )


def _numbers(line: str) -> list[decimal.Decimal] | None:
    parts = line.split()
    if not all(map(_NUMBER.fullmatch, parts)):
        return None
    try:
        return [decimal.Decimal(part) for part in parts]
    except decimal.InvalidOperation:  # the exponent is too large
        return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + " …")


def with_limit(reason: str, limits: Json) -> str:
    """Return a reason with the limit that a system call or an allocation met."""
    for sign, what in (
        ("MemoryError", f"{limits['memory']} MiB of memory"),
        ("[Errno 12]", f"{limits['memory']} MiB of memory"),
        ("[Errno 11]", f"{limits['processes']} processes"),
        ("can't start new thread", f"{limits['processes']} processes"),
        ("[Errno 27]", f"{limits['file_size']} MiB in a file"),
    ):
        if sign in reason:
            return f"{reason} (the limit is {what})"
    return reason


def verdict(job: Json) -> Json:
    """Return the verdict on the program of a job: the first test that fails decides."""
    tests = job["tests"]
    for number, test in enumerate(tests, start=1):
        wrong = (judge_output if "input" in test else judge_tests)(job, test)
        if wrong is not None:
            place = f"test {number} of {len(tests)}: " if len(tests) > 1 else ""
            return {"token": job["token"], "right": False, "reason": place + with_limit(wrong, job["limits"])}
    return {"token": job["token"], "right": True, "reason": None}


def checked_verdict(job: Json) -> Json:
    """Return the verdict, or none with the error of this process itself."""
    try:
        return verdict(job)
    except Exception as error:
        return {"token": job["token"], "right": None, "reason": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Give up root, read the job, and write the verdict."""
    become(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = json.load(sys.stdin.buffer)
    stopped = {"token": job["token"], "right": False, "reason": "the program stopped the process that judges it"}
    for line in (stopped, None):
        sys.stdout.write(json.dumps(line or checked_verdict(job)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
