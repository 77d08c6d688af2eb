"""Kill programs with SIGKILL, many times and at random moments, and count what is lost, paid twice or different.

    python benchmarks/kills.py [--kills 1000] [--only bench,sweep] [--seed 0] [--json]

Each of ``bench``, ``collect``, ``sweep``, ``serve`` and ``train`` runs with scripted models in a process of its own
(``killed_programs.py``), which is killed and started again in the same folder. A quarter of the kills come within 60
milliseconds after the start, so that two come in quick succession. Some processes are stopped (SIGSTOP) for a moment
before, and then no other process may write their folder.

After each kill, answers that were on disk must still be there (``lost``), and the next session must not request them
again (``twice``). At the end of a chain of kills the program runs to its end, and its transcripts, or weights, must be
those of a program that was never killed (``different``). For ``serve``, each answer that a client has read must be in
the log. For ``train``, what must not be lost are the updates up to the newest complete state.
"""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Annotated

import cyclopts
import msgspec
from cyclopts import Parameter
from killed_programs import PROGRAMS, Program
from markdown_tables import markdown

from arbiter.protocols.errors import RunError

SHARES = {"bench": 0.4, "collect": 0.2, "sweep": 0.2, "serve": 0.15, "train": 0.05}
CHAIN = 25  # kills until a program runs to its end
EARLY, EARLY_SECONDS = 0.25, 0.06
STOPPED = 0.15
PATIENCE = 120.0  # seconds
REFUSED, FAILED = 3, 4  # exit statuses


class Figures(msgspec.Struct):
    """Counts for one program. ``early``: the kills soon after the start. ``refused``: second writers that were."""

    kills: int = 0
    early: int = 0
    stops: int = 0
    refused: int = 0
    chains: int = 0
    lost: int = 0
    twice: int = 0
    different: int = 0
    failures: int = 0


class Child:
    """A program in a process group of its own."""

    def __init__(self, program: Program, folder: Path, requested: Path) -> None:
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _in_child(lambda: program.start(folder, requested), folder.parent / "errors")
        self.status: int | None = None

    def ended(self) -> bool:
        """Return whether the process has ended, and set its status: negative for the number of a signal."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def wait(self) -> int:
        """Return the exit status, and kill the process if it takes too long."""
        until = time.monotonic() + PATIENCE
        while not self.ended() and time.monotonic() < until:
            time.sleep(0.001)
        if self.status is None:
            self.send(signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and its workers."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # it has not made its group yet
            os.kill(self.pid, number)


def _in_child(start: Callable[[], None], errors: Path) -> None:
    status = 1
    try:
        os.setpgid(0, 0)
        to = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(to, 1)
        os.dup2(to, 2)
        start()
        status = 0
    except RunError as error:
        status = REFUSED if "another process is writing" in str(error) else FAILED
        if status == FAILED:
            traceback.print_exc()
    except BaseException:  # the process must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class Chain:
    """Kills of one program in one folder, until it has run to its end."""

    def __init__(self, name: str, where: Path, rng: Random, figures: Figures, size: float) -> None:
        self._name, self._program, self._rng, self._figures = name, PROGRAMS[name], rng, figures
        self._folder, self._requested, self._size = where / "folder", where / "requested", size
        self._known: set[str] = set()
        self._made = 0

    def kill(self) -> bool:
        """Start the program and kill it. Return False if it had ended before."""
        child, early = Child(self._program, self._folder, self._requested), self._rng.random() < EARLY
        if early:
            time.sleep(self._rng.random() * EARLY_SECONDS)
        else:
            self._wait_for_progress(child, self._rng.random() * self._size * 2 / CHAIN)
        if not early and self._rng.random() < STOPPED and not child.ended():
            self._stop(child)
        killed = not child.ended()
        if killed:
            child.send(signal.SIGKILL)
            killed = child.wait() == -signal.SIGKILL
        self._figures.kills += killed
        self._figures.early += killed and early
        self._check()
        if not killed and child.status != 0:
            self._figures.failures += 1
        return killed

    def finish(self, expected: object) -> None:
        """Run the program to its end, and compare its outcome with that of an undisturbed one."""
        if self._name != "serve" and Child(self._program, self._folder, self._requested).wait() != 0:
            self._figures.failures += 1
            return
        self._check()
        self._figures.chains += 1
        self._figures.different += self._program.outcome(self._folder) != expected

    def _wait_for_progress(self, child: Child, more: float) -> None:
        """Wait until the logs have grown by ``more`` bytes. A training, which has none, is given a part of its time."""
        trains, size = self._name == "train", written(self._folder) + more
        until = time.monotonic() + (self._rng.random() * self._size if trains else PATIENCE)
        while not child.ended() and time.monotonic() < until and (trains or written(self._folder) < size):
            time.sleep(0.001)

    def _stop(self, child: Child) -> None:
        child.send(signal.SIGSTOP)
        self._figures.stops += 1
        if written(self._folder):
            self._figures.refused += Child(self._program, self._folder, self._requested).wait() == REFUSED
        time.sleep(self._rng.random() * 0.02)
        child.send(signal.SIGCONT)
        time.sleep(self._rng.random() * 0.02)

    def _check(self) -> None:
        """Compare what is on disk with what was there, and what was requested with what was answered before."""
        requested = self._requested.read_text().split() if self._requested.exists() else []
        self._figures.twice += len(self._known.intersection(requested[self._made :]))
        try:
            known = self._program.answered(self._folder)
        except RunError:
            traceback.print_exc()
            self._figures.failures += 1
            known = set[str]()
        self._figures.lost += len(self._known - known)
        self._known, self._made = known, len(requested)


def written(folder: Path) -> int:
    """Return the size of all logs below ``folder``, in bytes."""
    return sum(path.stat().st_size for path in folder.glob("**/events.jsonl"))


def _undisturbed(name: str, where: Path) -> tuple[object, float]:
    """Return the outcome of a program that is not killed, and how far it comes: bytes of its log, or its seconds."""
    if name == "serve":
        return set[str](), 200_000.0
    if name == "train":
        import_module("arbiter.training.router_training")  # once, and not in each process
    where.mkdir()
    started = time.monotonic()
    if Child(PROGRAMS[name], where / "folder", where / "requested").wait() != 0:
        raise RuntimeError((where / "errors").read_text())
    seconds = time.monotonic() - started
    return PROGRAMS[name].outcome(where / "folder"), seconds if name == "train" else float(written(where / "folder"))


def measure(name: str, kills: int, rng: Random, where: Path) -> Figures:
    """Kill the program ``name`` that often, in chains."""
    figures = Figures()
    expected, size = _undisturbed(name, where / f"{name}-undisturbed")
    for number in _numbers():
        folder = where / f"{name}-{number}"
        folder.mkdir()
        chain = Chain(name, folder, rng, figures, size)
        for _ in range(CHAIN):
            if figures.kills >= kills or not chain.kill():
                break
        chain.finish(expected)
        if (folder / "errors").exists():
            sys.stderr.write((folder / "errors").read_text())
        if figures.kills >= kills or figures.failures:
            return figures
    raise AssertionError


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def main(
    *,
    kills: int = 1000,
    only: str = ",".join(SHARES),
    seed: int = 0,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Kill the programs and print the counts. The exit status is 1 if something was lost, paid twice or different.

    Parameters
    ----------
    kills
        The number of kills.
    only
        The programs to kill, separated by commas.
    seed
        The seed of the moments.
    json
        Print the counts as JSON.
    """
    names, rng, found = only.split(","), Random(seed), dict[str, Figures]()
    whole = sum(SHARES[name] for name in names)
    with tempfile.TemporaryDirectory(prefix="arbiter-kills-") as folder:
        for name in sorted(names, key=lambda name: name == "train"):  # torch is imported last
            found[name] = measure(name, max(1, round(kills * SHARES[name] / whole)), rng, Path(folder))
            if not json:
                sys.stderr.write(f"{name}: {found[name]}\n")
    if json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        fields = Figures.__struct_fields__
        rows = [[name, *(str(getattr(one, field)) for field in fields)] for name, one in found.items()]
        sys.stdout.write(markdown(" | ".join(["program", *fields]), rows) + "\n")
    wrong = sum((Counter(msgspec.structs.asdict(one)) for one in found.values()), Counter[str]())
    return int(any(wrong[name] for name in ("lost", "twice", "different", "failures")))


if __name__ == "__main__":
    cyclopts.App(default_command=main, result_action="sys_exit")()
