"""Measure what the event log costs: the same problems with each kind of log and without one.

    python benchmarks/log.py [--problems 400] [--repeats 5] [--json]

The models answer without delay, so that only the orchestration is measured. The rounds are interleaved (off, full,
redacted, decisions, off, …). The fastest round of each kind counts, because other work on the machine only adds time.
CPU is that of the whole process, including the writer's thread. ``share`` is the log's part of the orchestration:
(on - off) / on. ``checksums`` is the part of the checksums, measured in the writer's thread.
"""

import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, get_args
from unittest.mock import patch

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter

from arbiter.actors.journal import NoJournal
from arbiter.actors.policies import RewardThreshold
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.log.checksums import Checksums
from arbiter.log.reader import LOG
from arbiter.log.sessions import open_journal
from arbiter.protocols.events import Detail
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, Journal, ModelHandle
from arbiter.protocols.records import Solution, Transcript, Usage

STEPS = 8
TEXT = "We multiply the first number by the second one, carry the ten, and write the sum of both rows below. " * 2


class Cost(msgspec.Struct, frozen=True):
    """The cost per step: CPU in microseconds, its ratio to that without a log, and bytes of log.

    ``share`` and ``checksums`` are the shares of the log and of its checksums in the CPU.
    """

    cpu: float
    ratio: float
    share: float
    checksums: float
    bytes: float


def main(problems: int = 400, repeats: int = 5, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Measure each kind of log ``repeats`` times over ``problems`` problems of eight steps, a third escalated."""
    details: tuple[Detail | None, ...] = (None, *get_args(Detail))
    readings = {detail: [_reading(detail, problems)] for detail in details}  # the first round warms up
    for _ in range(repeats):
        for detail in details:
            readings[detail].append(_reading(detail, problems))
    fastest = {detail: min(rounds[1:]) for detail, rounds in readings.items()}
    off = fastest[None][0]
    costs = {
        detail or "off": Cost(1e6 * cpu, cpu / off, (cpu - off) / cpu, checksums, size)
        for detail, (cpu, size, checksums) in fastest.items()
    }
    sys.stdout.write(msgspec.json.encode(costs).decode() if as_json else _table(costs))
    sys.stdout.write("\n")


def _reading(detail: Detail | None, problems: int) -> tuple[float, float, float]:
    """Return CPU seconds and log bytes per step, and the share of the checksums in the CPU."""
    added, taken = Checksums.added, 0.0

    def timed(checksums: Checksums, lines: bytes) -> bytes:
        nonlocal taken
        started = time.thread_time()
        found = added(checksums, lines)
        taken += time.thread_time() - started
        return found

    started = time.process_time()
    with patch.object(Checksums, "added", timed):
        cpu, size = _measured(detail, problems)
    return cpu, size, taken / (time.process_time() - started)


def _measured(detail: Detail | None, problems: int) -> tuple[float, float]:
    """Return CPU seconds and log bytes per step."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / LOG
        started = time.process_time()
        steps = anyio.run(_solve, log, detail, problems)
        cpu = time.process_time() - started
        return cpu / steps, (log.stat().st_size if log.exists() else 0) / steps


async def _solve(log: Path, detail: Detail | None, problems: int) -> int:
    steps = 0

    async def done(solution: Solution) -> None:
        nonlocal steps
        steps += len(solution.steps)

    tasks = (Task(f"problem-{n}", Transcript(TEXT), RewardThreshold(0.5)) for n in range(problems))
    async with _journal(log, detail) as journal, open_ring(_models(), journal=journal) as ring:
        await solve_all(ring, tasks, 64, done)
    return steps


@asynccontextmanager
async def _journal(log: Path, detail: Detail | None) -> AsyncGenerator[Journal]:
    if detail is None:
        yield NoJournal()
    else:
        async with open_journal(log, detail=detail) as journal:
            yield journal


def _models() -> Models:
    def write(request: GenerationRequest) -> Generation:
        ending = "end" if request.step == STEPS - 1 else "separator"
        return Generation(f"Step {request.step}: {TEXT}", ending, Usage(500, 50, 400))

    generator = ScriptedGenerator(write)
    scorer = ScriptedScorer(lambda request: 0.9 if request.step % 3 else 0.1)
    return Models(draft=ModelHandle(generator), target=ModelHandle(generator), scorers={"prm": ModelHandle(scorer)})


def _table(costs: dict[str, Cost]) -> str:
    lines = [f"{'log':<10} {'CPU µs / step':>14} {'ratio':>6} {'share':>6} {'checksums':>10} {'bytes / step':>13}"]
    for name, cost in costs.items():
        shares = f"{cost.share:>6.0%} {cost.checksums:>10.1%}"
        lines.append(f"{name:<10} {cost.cpu:>14.0f} {cost.ratio:>6.2f} {shares} {cost.bytes:>13.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    cyclopts.run(main)
