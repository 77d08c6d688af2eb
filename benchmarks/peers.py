"""Compare the ring with the loops that a user would write with ``openai``, ``litellm`` or ``inspect_ai``.

    python benchmarks/peers.py [--problems 100] [--rounds 5] [--in-flight 64] [--python PYTHON] [--json]

All make the same requests to the same server, which is in another process; ``benchmarks/peer_loops.py`` has the loops
and says what differs. The ring writes its event log. The clients take turns, after a round that warms up. The figures
are medians of the rounds, and the ratios are medians of the ratios of the rounds.

- *CPU*: the server answers without delay. The microseconds of CPU per step are those of the client's process. The
  garbage collector is configured as each does it: the command line of Arbiter runs it rarely.
- *Wall time*: ``in_flight`` problems, all at the same time, with delays like those of real models
  (``fixed_server.drawn_seconds``). No schedule without speculation can end before the longest chain of answers.

``python`` is an interpreter with the clients that this environment lacks (``just frameworks-env``). What neither has is
left out, and the program names it.
"""

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Annotated

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from fixed_server import QUESTION, chain_seconds
from markdown_tables import markdown
from overhead import AT_ONCE, POLICY
from throughput import served

from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.opening import open_generator, open_scorer
from arbiter.cli.main import collect_seldom
from arbiter.config.model_tables import ServedTable
from arbiter.log.reader import LOG
from arbiter.log.sessions import open_journal
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import ModelHandle
from arbiter.protocols.records import Solution, Transcript

HERE = Path(__file__).parent
PEERS = ("openai", "litellm", "inspect_ai")
FRAMEWORKS = Path(os.environ.get("ARBITER_FRAMEWORKS_PYTHON", HERE.parent / ".frameworks/bin/python"))


class Round(msgspec.Struct, frozen=True):
    """What one round took: seconds of CPU and of wall time, for a number of steps."""

    steps: int
    cpu: float
    wall: float


class Cost(msgspec.Struct, frozen=True):
    """CPU microseconds per step of a client, and their ratio to the ring's."""

    client: str
    cpu: float
    ratio: float


class Walls(msgspec.Struct, frozen=True):
    """Wall seconds with delays, and the ratios: the loop's to the ring's, and the ring's to the longest chain."""

    ours: float
    loop: float
    chain: float
    loop_ratio: float
    chain_ratio: float


class Found(msgspec.Struct, frozen=True):
    """All measurements, and the clients that are installed nowhere."""

    costs: list[Cost]
    walls: Walls
    left_out: list[str]


Measure = Callable[[int], Round]
"""Solves a number of problems."""


def main(
    *,
    problems: int = 100,
    rounds: int = 5,
    in_flight: int = AT_ONCE,
    python: Path = FRAMEWORKS,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure the CPU time with ``problems``, then the wall time with ``in_flight``, and print both tables."""
    collect_seldom()
    found_in = {name: where for name in PEERS if (where := interpreter_with(name, [Path(sys.executable), python]))}
    if "openai" not in found_in:
        raise SystemExit("the loop with openai is not there: pip install 'arbiter-reasoning[openai]'")
    measured = Found(
        costs(found_in, problems, rounds),
        walls(found_in["openai"], in_flight, rounds),
        [name for name in PEERS if name not in found_in],
    )
    sys.stdout.write(msgspec.json.encode(measured).decode() if as_json else tables(measured))
    sys.stdout.write("\n")


def costs(found_in: dict[str, Path], problems: int, rounds: int) -> list[Cost]:
    """Return what a step costs the ring and each client, on a server without delay."""
    with served() as port, ExitStack() as opened:
        ways = {"ours": our_way(port)} | {
            name: opened.enter_context(looping(name, python, port)) for name, python in found_in.items()
        }
        taken = _in_turns(ways, problems, rounds)
    cpu = {name: [1e6 * one.cpu / one.steps for one in each] for name, each in taken.items()}
    return [Cost(name, median(each), _ratio(each, cpu["ours"])) for name, each in cpu.items()]


def walls(python: Path, problems: int, rounds: int) -> Walls:
    """Return the wall times of the ring and of the loop with ``openai``, on a server with delays."""
    with served("--delays") as port, looping("openai", python, port) as loop:
        taken = _in_turns({"ours": our_way(port), "loop": loop}, problems, rounds)
    ours, theirs = ([one.wall for one in taken[name]] for name in ("ours", "loop"))
    chain = max(chain_seconds(number) for number in range(problems))
    return Walls(median(ours), median(theirs), chain, _ratio(theirs, ours), median(ours) / chain)


def _in_turns(ways: dict[str, Measure], problems: int, rounds: int) -> dict[str, list[Round]]:
    """Return the rounds of each. Raises ``RuntimeError`` if two of them made different steps."""
    taken: dict[str, list[Round]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            taken[name].append(way(problems))
    if len({one.steps for each in taken.values() for one in each}) > 1:
        raise RuntimeError("two clients made different numbers of steps")
    return {name: each[1:] for name, each in taken.items()}


def _ratio(one: list[float], other: list[float]) -> float:
    return median(mine / theirs for mine, theirs in zip(one, other, strict=True))


def our_way(port: int) -> Measure:
    """Return how the ring solves problems."""
    return lambda problems: anyio.run(ours, port, problems)


async def ours(port: int, problems: int) -> Round:
    """Solve with the ring and its log."""
    tables = [
        ServedTable(
            url=f"http://127.0.0.1:{port}", model=name, prompt="qwen2.5-math", in_flight=AT_ONCE, scores="embeddings"
        )
        for name in ("draft", "target", "prm")
    ]
    tasks = (Task(f"problem-{number}", Transcript(f"{QUESTION} {number}"), POLICY) for number in range(problems))
    steps = 0

    async def done(solution: Solution) -> None:
        nonlocal steps
        if solution.finish_reason != "answered":
            raise RuntimeError(f"{solution.problem} ended by {solution.finish_reason}: {solution.error}")
        steps += len(solution.steps)

    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_generator("draft", tables[0], None) as draft,
            open_generator("target", tables[1], None) as target,
            open_scorer("prm", tables[2], None) as scorer,
            open_journal(Path(folder) / LOG) as journal,
        ):
            writers = (ModelHandle(draft, AT_ONCE), ModelHandle(target, AT_ONCE))
            models = Models(draft=writers[0], target=writers[1], scorers={"prm": ModelHandle(scorer, AT_ONCE)})
            async with open_ring(models, journal=journal) as ring:
                gc.collect()
                wall, cpu = time.monotonic(), time.process_time()
                await solve_all(ring, tasks, AT_ONCE, done)
                return Round(steps, time.process_time() - cpu, time.monotonic() - wall)


@contextmanager
def looping(name: str, python: Path, port: int) -> Generator[Measure]:
    """Start the loop of a client in its own process, and yield how to let it solve problems.

    Raises ``SystemExit`` with its output if it fails.
    """
    command = [python, HERE / "peer_loops.py", name, str(port)]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process,  # noqa: S603 - the command is ours
    ):
        try:
            yield lambda problems: _requested(name, process, errors, problems)
        finally:
            process.kill()


def _requested(name: str, process: subprocess.Popen[bytes], errors: IO[bytes], problems: int) -> Round:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process was started without pipes")
    process.stdin.write(b"%d\n" % problems)
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith(b"{"):  # clients print notices of their own
            return msgspec.json.decode(line, type=Round)
    errors.seek(0)
    raise SystemExit(f"the loop of {name} failed: {errors.read().decode(errors='replace')}")


def interpreter_with(name: str, interpreters: list[Path]) -> Path | None:
    """Return the first interpreter that has the package."""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    for one in interpreters:
        if one.exists() and not subprocess.run([one, "-c", look], check=False).returncode:  # noqa: S603 - as above
            return one
    return None


def tables(measured: Found) -> str:
    """Return the measurements as tables in Markdown."""
    took = measured.walls
    costs = [(one.client, f"{one.cpu:.0f}", f"{one.ratio:.2f}") for one in measured.costs]
    seconds = [f"{each:.2f}" for each in (took.ours, took.loop, took.chain)]
    ratios = [f"{each:.3f}" for each in (took.loop_ratio, took.chain_ratio)]
    headings = "wall seconds: ours | openai loop | longest chain | openai loop / ours | ours / longest chain"
    return "\n".join(
        [
            markdown("client | CPU µs per step | / ours", costs),
            *(f"\nLeft out, because it is not installed: {name} (just frameworks-env)" for name in measured.left_out),
            "",
            markdown(headings, [seconds + ratios]),
        ]
    )


if __name__ == "__main__":
    cyclopts.run(main)
