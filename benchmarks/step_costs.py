"""Compare what a step costs in this checkout and in another one: the ring, the log, and the commands that read a log.

    python benchmarks/step_costs.py --before CHECKOUT [--before-python PYTHON] [--only PART] [--rounds 5]
        [--problems 5000] [--in-flight 10000] [--over-http 150] [--json]

For example, make the other checkout with ``git worktree add ../before ef65c79``. Each checkout measures with its own
``benchmarks/overhead.py`` and ``benchmarks/log.py``, in a process that stays open. The checkouts alternate within a
round. A ratio is the median of the ratios of the rounds: this checkout divided by the other. Figures are medians.
``--only`` selects parts, and may be given several times. The parts are ``ring``, ``http``, ``log``, ``show`` and
``replay``.

- ``N in flight``: CPU microseconds per step in process, without a log, with N problems in the ring.
- ``64 in flight, log``: the same with an event log.
- ``waiting, log off`` and ``on``: the same with models that yield to the event loop at each request.
- ``HTTP, plain loop``, ``log off`` and ``log on``: the same over HTTP, with 64 of ``over-http`` problems at a time. The
  server is in another process and answers without delay. The plain loop makes the same requests with the client of its
  checkout, and has no ring.
- ``bytes``: bytes of log per step of 200 characters.
- ``show``: CPU seconds of ``arbiter show LOG PROBLEM``, with a log of ``problems`` problems of eight steps.
- ``replay``: CPU seconds of ``arbiter replay`` of a log of 1,250 problems, which are 10,000 steps.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Literal, get_args

import cyclopts
import msgspec
from cyclopts import Parameter
from markdown_tables import markdown

HERE = Path(__file__).parent.parent
REPLAYED = 1250
Part = Literal["ring", "http", "log", "show", "replay"]
PARTS: tuple[Part, ...] = get_args(Part)
_HTTP = {"HTTP, plain loop": "loop", "HTTP, log off": "off", "HTTP, log on": "on"}  # the names of overhead.py
_IN_FLIGHT = {1: 100, 64: 10, 1000: 1, 10_000: 1}  # rounds of one measurement
_WORKER = """
import gc, sys, tempfile, time
from pathlib import Path
import anyio
sys.path.insert(0, "benchmarks")
import log, overhead
overhead.collect_seldom()
for request in sys.stdin:
    kind, first, second = request.split()
    gc.collect()
    if kind == "ring":
        print(overhead._cpu(int(first), int(second)), flush=True)
    elif kind == "logged":
        started, steps = time.process_time(), 0
        for _ in range(int(second)):
            models = overhead.Immediate(64, overhead._nothing)
            with tempfile.TemporaryDirectory() as folder:
                path = None if first == "off" else Path(folder) / "events.jsonl"
                steps += anyio.run(overhead.ring, models, models, 64, path)
        print(1e6 * (time.process_time() - started) / steps, flush=True)
    elif kind == "log":
        cpu, size = log._measured(None if first == "off" else first, int(second))
        print(1e6 * cpu, size, flush=True)
    else:
        print(anyio.run(log._solve, Path(first) / "events.jsonl", "full", int(second)), flush=True)
"""
_PROGRAM = """
try:
    from arbiter.cli.main import main
except ModuleNotFoundError:
    from arbiter.cli import main
main()
"""


class Cost(msgspec.Struct, frozen=True):
    """One figure of this checkout and of the other one, and the ratio."""

    name: str
    here: float
    before: float
    ratio: float


class _Overhead(msgspec.Struct, frozen=True):
    """What is used of the output of ``benchmarks/overhead.py``."""

    http: dict[str, float]


class Side:
    """A checkout with its open process. ``folder`` is for the logs that it writes."""

    def __init__(self, checkout: Path, python: Path, folder: Path) -> None:
        self._environment = {**os.environ, "PYTHONPATH": str(checkout)}
        self._checkout, self._python, self.folder = checkout, python, folder
        self._process = subprocess.Popen(  # noqa: S603 - a checkout that the user names
            [python, "-c", _WORKER],
            cwd=checkout,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, *request: object) -> list[float]:
        """Have the process measure. Raises ``RuntimeError`` if it fails."""
        assert self._process.stdin and self._process.stdout  # noqa: S101, PT018 - they are pipes
        self._process.stdin.write(" ".join(map(str, request)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the measurement failed in {self._checkout}")
        return [float(number) for number in answer.split()]

    def over_http(self, problems: int) -> list[float]:
        """Return the CPU microseconds per step over HTTP, in the order of ``_HTTP``. Raises ``RuntimeError``."""
        options = ["--problems", str(problems), "--repeats", "1", "--most", "1", "--json"]
        ended = subprocess.run(  # noqa: S603 - a checkout that the user names
            [self._python, "benchmarks/overhead.py", *options],
            cwd=self._checkout,
            env=self._environment,
            capture_output=True,
            check=False,
        )
        if ended.returncode:
            error = ended.stderr.decode(errors="replace")
            raise RuntimeError(f"benchmarks/overhead.py failed in {self._checkout}: {error}")
        found = msgspec.json.decode(ended.stdout, type=_Overhead).http
        return [found[name] for name in _HTTP.values()]

    def run(self, *command: str | Path) -> float:
        """Return the CPU seconds of an ``arbiter`` command. Raises ``RuntimeError`` if it fails."""
        process = subprocess.Popen(  # noqa: S603 - a checkout that the user names
            [self._python, "-c", _PROGRAM, *command],
            cwd=self._checkout,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            raise RuntimeError(f"arbiter {' '.join(map(str, command))} failed in {self._checkout}")
        return usage.ru_utime + usage.ru_stime

    def close(self) -> None:
        """End the process."""
        with self._process:  # closes its pipes, and waits for it
            self._process.terminate()


def main(
    before: Path,
    before_python: Path = Path(sys.executable),
    only: tuple[Part, ...] = PARTS,
    rounds: int = 5,
    problems: int = 5000,
    in_flight: int = 10_000,
    over_http: int = 150,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure, and print the table.

    Parameters
    ----------
    before
        The other checkout.
    before_python
        The interpreter with what the other checkout needs.
    only
        The parts to measure.
    rounds
        The number of rounds of each measurement, after one that warms up.
    problems
        The number of problems in the log that is shown.
    in_flight
        The largest number of problems in flight.
    over_http
        The number of problems over HTTP.
    """
    with _sides((HERE, Path(sys.executable)), (before.resolve(), before_python)) as sides:
        costs = list(measure(sides, only, rounds, problems, in_flight, over_http))
    sys.stdout.write(msgspec.json.encode(costs).decode() if as_json else render(costs))
    sys.stdout.write("\n")


def measure(
    sides: tuple[Side, Side], only: tuple[Part, ...], rounds: int, problems: int, in_flight: int, over_http: int
) -> Iterator[Cost]:
    """Yield the figures of the parts ``only``, each when it is measured."""
    if "ring" in only:
        for size, repeats in ((size, repeats) for size, repeats in _IN_FLIGHT.items() if size <= in_flight):
            yield compare(
                f"{size:,} in flight", sides, rounds, lambda side, s=size, r=repeats: side.measure("ring", s, r)[0]
            )
        yield compare("64 in flight, log", sides, rounds, lambda side: side.measure("logged", "on", 10)[0])
        yield compare("waiting, log off", sides, rounds, lambda side: side.measure("log", "off", 200)[0])
        yield compare("waiting, log on", sides, rounds, lambda side: side.measure("log", "full", 200)[0])
    if "http" in only:
        yield from compare_each(list(_HTTP), sides, rounds, lambda side: side.over_http(over_http))
    if "log" in only:
        yield compare("bytes", sides, 1, lambda side: side.measure("log", "full", 200)[1])
    if "show" in only:
        _write_logs(sides, "shown", problems)
        name = f"problem-{problems // 2}"
        yield compare("show", sides, rounds, lambda side: side.run("show", side.folder / "shown", name))
    if "replay" in only:
        _write_logs(sides, "replayed", REPLAYED)
        yield compare("replay", sides, rounds, lambda side: side.run("replay", side.folder / "replayed"))


def _write_logs(sides: tuple[Side, Side], name: str, problems: int) -> None:
    for side in sides:
        (side.folder / name).mkdir()
        side.measure("write", side.folder / name, problems)


def compare(name: str, sides: tuple[Side, Side], rounds: int, figure: Callable[[Side], float]) -> Cost:
    """Return a figure of both sides, measured as by ``compare_each``."""
    [cost] = compare_each([name], sides, rounds, lambda side: [figure(side)])
    return cost


def compare_each(
    names: list[str], sides: tuple[Side, Side], rounds: int, figures: Callable[[Side], list[float]]
) -> list[Cost]:
    """Return the named figures of both sides, which alternate. The first round warms up, and does not count."""
    here, there = sides
    counted: list[tuple[list[float], list[float]]] = []
    for number in range(rounds + 1):
        if number % 2:  # the second checkout finds warm caches: take turns
            counted.append((figures(here), figures(there)))
        else:
            other = figures(there)
            counted.append((figures(here), other))
    return [_cost(name, [(one[at], other[at]) for one, other in counted[1:]]) for at, name in enumerate(names)]


def _cost(name: str, pairs: list[tuple[float, float]]) -> Cost:
    ratio = median(one / other for one, other in pairs)
    return Cost(name, median(one for one, _ in pairs), median(other for _, other in pairs), round(ratio, 3))


def render(costs: list[Cost]) -> str:
    """Return the table of the figures."""
    rows = [(one.name, f"{one.here:.4g}", f"{one.before:.4g}", f"{one.ratio:.3f}") for one in costs]
    return markdown("figure | here | before | ratio", rows)


@contextmanager
def _sides(here: tuple[Path, Path], there: tuple[Path, Path]) -> Generator[tuple[Side, Side]]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        opened: list[Side] = []
        for name, (checkout, python) in (("here", here), ("before", there)):
            (Path(folder) / name).mkdir()
            side = Side(checkout, python, Path(folder) / name)
            stack.callback(side.close)
            opened.append(side)
        yield opened[0], opened[1]


if __name__ == "__main__":
    cyclopts.run(main)
