"""Measure what the ring costs: CPU per step and memory per problem, compared with a plain loop of the same requests.

    python benchmarks/overhead.py [--problems 400] [--repeats 5] [--most 10000] [--json]

Over HTTP, a server in another process answers without delay. Each step makes one request to the draft and one to the
PRM. 64 problems are solved at a time: by one plain loop per problem with the same client (``loop``), by the ring
(``off``), and by the ring with a full event log (``on``). The rounds are interleaved. The fastest round of each counts,
because other work on the machine only adds time.

The garbage collector is configured as the command line does it (``arbiter.cli.main.collect_seldom``), also for the
loop.

In process, the models answer without waiting, with 1 to ``most`` problems in flight. Memory is what Python has
allocated (``tracemalloc``) while all problems are in their last step but one, less what was allocated before, per
problem. The texts of a problem's steps are counted separately.
"""

import gc
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from fixed_server import QUESTION
from throughput import served

from arbiter.actors.policies import RewardThreshold
from arbiter.actors.ring import Ring, open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.opening import open_generator, open_scorer
from arbiter.cli.main import collect_seldom
from arbiter.config.model_tables import ServedTable
from arbiter.log.reader import LOG
from arbiter.log.sessions import open_journal
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Score, Scorer, ScoreRequest
from arbiter.protocols.records import Limits, Solution, Step, Transcript, Usage

AT_ONCE = 64
STEPS = 8
POLICY = RewardThreshold(0.7)
LIMITS = Limits()


class Http(msgspec.Struct, frozen=True):
    """CPU microseconds per step, and the ratios of the ring's to the loop's."""

    loop: float
    off: float
    on: float
    off_ratio: float
    on_ratio: float


class InProcess(msgspec.Struct, frozen=True):
    """With ``problems`` in flight: CPU microseconds per step, and bytes per problem without its ``text``."""

    problems: int
    cpu: float
    memory: float
    text: float


class Found(msgspec.Struct, frozen=True):
    """All measurements."""

    http: Http
    in_process: list[InProcess]


def main(
    *,
    problems: int = 400,
    repeats: int = 5,
    most: int = 10_000,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure over HTTP and in process, and print both tables."""
    collect_seldom()
    sizes = [10**power for power in range(6) if 10**power <= most]
    measured = Found(over_http(problems, repeats), [in_process(size, 200 * repeats) for size in sizes])
    sys.stdout.write(msgspec.json.encode(measured).decode() if as_json else _tables(measured))
    sys.stdout.write("\n")


def over_http(problems: int, repeats: int) -> Http:
    """Return the fastest of ``repeats`` rounds of each, after one round that warms up."""
    ways: dict[str, Callable[[Generator, Scorer, int], Awaitable[int]]] = {"loop": loop, "off": ring, "on": logged}
    readings: dict[str, list[float]] = {name: [] for name in ways}
    with served() as port:
        for _ in range(repeats + 1):
            for name, way in ways.items():
                readings[name].append(anyio.run(_timed, way, port, problems))
    fastest = {name: min(rounds[1:]) for name, rounds in readings.items()}
    return Http(**fastest, off_ratio=fastest["off"] / fastest["loop"], on_ratio=fastest["on"] / fastest["loop"])


async def _timed(way: Callable[[Generator, Scorer, int], Awaitable[int]], port: int, problems: int) -> float:
    table = ServedTable(url=f"http://127.0.0.1:{port}", model="fixed", prompt="qwen2.5-math", in_flight=AT_ONCE)
    async with open_generator("draft", table, None) as generator, open_scorer("prm", table, None) as scorer:
        gc.collect()
        started = time.process_time()
        steps = await way(generator, scorer, problems)
        return 1e6 * (time.process_time() - started) / steps


async def loop(generator: Generator, scorer: Scorer, problems: int) -> int:
    """Solve without a ring: each worker takes a problem and makes its requests in order. Return the number of steps."""
    waiting, done = iter(range(problems)), 0

    async def work() -> None:
        nonlocal done
        for number in waiting:
            context, name, ending = Transcript(f"{QUESTION} {number}"), f"problem-{number}", ""
            while ending != "end":
                step = len(context.steps)
                request = GenerationRequest(
                    name, step, 0, "draft", context, "\n\n", LIMITS.step_tokens, temperature=0.0, top_p=1.0, seed=0
                )
                made = await generator.generate(request)
                await scorer.score(ScoreRequest(name, step, "prm", context, made.text, "draft", "\n\n"))
                context, ending, done = context.extended(Step(made.text, "draft")), made.stop_reason, done + 1

    async with anyio.create_task_group() as workers:
        for _ in range(AT_ONCE):
            workers.start_soon(work)
    return done


async def ring(generator: Generator, scorer: Scorer, problems: int, log: Path | None = None) -> int:
    """Make the same requests through the ring, and return the number of steps."""
    steps = 0

    async def done(solution: Solution) -> None:
        nonlocal steps
        steps += len(solution.steps)

    handle = ModelHandle(generator, AT_ONCE)
    models = Models(draft=handle, target=handle, scorers={"prm": ModelHandle(scorer, AT_ONCE)})
    tasks = (Task(f"problem-{number}", Transcript(f"{QUESTION} {number}"), POLICY) for number in range(problems))
    async with _open(models, log) as opened:
        await solve_all(opened, tasks, AT_ONCE, done)
    return steps


async def logged(generator: Generator, scorer: Scorer, problems: int) -> int:
    """Do the same with an event log."""
    with tempfile.TemporaryDirectory() as folder:
        return await ring(generator, scorer, problems, Path(folder) / LOG)


@asynccontextmanager
async def _open(models: Models, log: Path | None) -> AsyncGenerator[Ring]:
    if log is None:
        async with open_ring(models) as opened:
            yield opened
    else:
        async with open_journal(log) as journal, open_ring(models, journal=journal) as opened:
            yield opened


class Immediate:
    """The models. They answer without waiting; only the last step but one waits until all problems have reached it.

    ``full`` is called at that moment.
    """

    def __init__(self, problems: int, full: Callable[[], None]) -> None:
        self._missing = problems
        self._full = full
        self._all_arrived = anyio.Event()

    async def generate(self, request: GenerationRequest) -> Generation:
        if request.step == STEPS - 2:
            self._missing -= 1
            if not self._missing:
                self._full()
                self._all_arrived.set()
            await self._all_arrived.wait()
        ending = "end" if request.step == STEPS - 1 else "separator"
        return Generation(f"Step {request.step} of {request.problem}: {QUESTION}", ending, Usage(500, 50, 400))

    async def score(self, request: ScoreRequest) -> Score:
        return Score(0.9 if request.step % 3 else 0.1, Usage(550))


def in_process(problems: int, least: int) -> InProcess:
    """Measure ``problems`` in flight, over rounds of at least ``least`` problems in total."""
    rounds = max(least // problems, 1)
    fastest = min(_cpu(problems, rounds) for _ in range(3))
    memory, text = _memory(problems)
    return InProcess(problems, fastest, memory, text)


def _cpu(problems: int, rounds: int) -> float:
    gc.collect()
    started = time.process_time()
    for _ in range(rounds):
        anyio.run(_solved, problems, _nothing)
    return 1e6 * (time.process_time() - started) / (problems * rounds * STEPS)


def _nothing() -> None:
    """Ignore that all problems have arrived."""


def _memory(problems: int) -> tuple[float, float]:
    """Return the bytes per problem while all problems are in the ring: without its texts, and those of its texts."""
    seen: list[int] = []

    def look() -> None:
        gc.collect()
        seen.append(tracemalloc.get_traced_memory()[0])

    anyio.run(_solved, 1, _nothing)  # import and fill caches before the first reading
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        anyio.run(_solved, problems, look)
    finally:
        tracemalloc.stop()
    written = STEPS - 2 + len(range(0, STEPS - 2, 3))  # every third draft is rejected, and the target writes the step
    text = float(written * sys.getsizeof(f"Step 0 of problem-{problems}: {QUESTION}") + sys.getsizeof(QUESTION))
    return (seen[0] - before) / problems - text, text


async def _solved(problems: int, full: Callable[[], None]) -> None:
    async def done(solution: Solution) -> None:
        if solution.finish_reason != "answered":
            raise RuntimeError(f"{solution.problem} ended by {solution.finish_reason}: {solution.error}")

    models = Immediate(problems, full)
    writer, scorer = ModelHandle[Generator](models, problems), ModelHandle[Scorer](models, problems)
    tasks = (Task(f"problem-{number}", Transcript(f"{QUESTION} {number}"), POLICY) for number in range(problems))
    async with open_ring(Models(draft=writer, target=writer, scorers={"prm": scorer})) as opened:
        await solve_all(opened, tasks, problems, done)


def _tables(measured: Found) -> str:
    http = measured.http
    lines = [
        "| over HTTP | CPU µs per step | / loop |\n|---|---|---|",
        f"| loop | {http.loop:.0f} | 1 |",
        f"| ring, no log | {http.off:.0f} | {http.off_ratio:.2f} |",
        f"| ring, log | {http.on:.0f} | {http.on_ratio:.2f} |",
        "",
        "| problems in flight | CPU µs per step | bytes per problem without its texts |\n|---|---|---|",
        *(f"| {one.problems:,} | {one.cpu:.0f} | {one.memory:,.0f} |" for one in measured.in_process),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    cyclopts.run(main)
