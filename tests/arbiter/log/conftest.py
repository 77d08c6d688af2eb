"""Fixtures: scripted models, rings with a journal in memory, and runs that are interrupted and resumed."""

import hashlib
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.protocols.errors import BackendError
from arbiter.protocols.events import SCHEMA, Entry, Event
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Solution, StopReason, Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run, read_records
from arbiter.runs.results import Result
from benchmarks.silent_watcher import SilentWatcher

Body = Callable[[], Awaitable[None]]
Request = GenerationRequest | ScoreRequest


@pytest.fixture(scope="session")
def a_world() -> Callable[..., Models]:
    """Models whose answers, failures and times depend only on a seed and the request; ``asked`` gets each one.

    ``fails`` is the share of calls that fail, or score outside [0, 1]; ``slow`` the longest time of a call.
    With ``several`` targets the router has an estimate for each of two.
    """

    def build(
        seed: int = 0,
        fails: float = 0.0,
        slow: float = 0.0,
        in_flight: int = 64,
        asked: Callable[[Request], None] = lambda _: None,
        several: bool = False,
    ) -> Models:
        def seconds(request: Request) -> float:
            return slow and round(slow * _share(seed, "seconds", request.call), 1)  # rounded: many end at once

        def write(request: GenerationRequest) -> Generation:
            asked(request)
            place = seed, request.target or request.author, request.transcript, request.sample, request.seed
            if _share(*place, "fails") < fails:
                raise BackendError(f"the {request.author} fell over\nat step {request.step}") from OSError("no route")
            drawn = _share(*place)
            ending: StopReason = "end" if drawn < 0.2 else "limit" if drawn < 0.25 else "separator"
            words = 1 + int(10 * drawn) % 5
            overhead = Usage(2, 1) if drawn > 0.9 else Usage()
            sure = max(_share(*place, "sure"), 0.01) if request.confidence else None
            return Generation(
                f"{request.author} {drawn:.3f} \\boxed{{7}}", ending, Usage(9, words, 3), overhead, confidence=sure
            )

        def rate(request: ScoreRequest) -> float | tuple[float, ...]:
            asked(request)
            drawn = _share(seed, request.score_kind, request.transcript, request.candidate)
            if drawn < fails:
                return math.nan if drawn < fails / 2 else 1.5
            return (drawn, 1.0 - drawn) if request.score_kind == "router" and several else drawn

        return Models(
            draft=ModelHandle(ScriptedGenerator(write, seconds, writes_blocks=seed % 2 == 0), in_flight),
            target=ModelHandle(ScriptedGenerator(write, seconds), in_flight),
            scorers={
                "prm": ModelHandle(ScriptedScorer(rate, seconds), in_flight),
                "router": ModelHandle(ScriptedScorer(rate, seconds), in_flight),
                "judge": ModelHandle(ScriptedScorer(rate, seconds), in_flight),
            },
            targets={name: ModelHandle(ScriptedGenerator(write, seconds), in_flight) for name in ("small", "large")},
        )

    return build


class Memory:
    """A journal in memory, whose events were encoded as JSON and decoded."""

    kept = True
    threshold: float | None = None

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def write(self, entry: Entry) -> None:
        self.note(entry)

    def note(self, entry: Entry) -> None:
        now, fields = anyio.current_time(), msgspec.structs.asdict(entry)
        del fields["derived"]
        event = Event(v=SCHEMA, run="memory", seq=len(self.events), mono=now, wall=now, **fields)
        self.events.append(msgspec.json.decode(msgspec.json.encode(event), type=Event))

    def recall(self, call: str) -> None:
        """Return None: each run is a new one."""

    def decided(self, place: str) -> None:
        """Return None, for the same reason."""

    def spent(self, start: str) -> float:
        return 0.0


@pytest.fixture(scope="session")
def recorded(in_virtual_time: Callable[[Body], None]) -> Callable[..., tuple[list[Solution], list[Event]]]:
    """The solutions of a ring in virtual time, and all events that it wrote into its journal.

    ``settings`` are those of ``open_ring``.
    """

    def solve(
        models: Models, tasks: Iterable[Task], concurrency: int = 1000, **settings: Any
    ) -> tuple[list[Solution], list[Event]]:
        solutions: list[Solution] = []
        journal = Memory()

        async def done(solution: Solution) -> None:
            solutions.append(solution)

        async def body() -> None:
            async with open_ring(models, journal=journal, **settings) as ring:
                await solve_all(ring, tasks, concurrency, done)

        in_virtual_time(body)
        return solutions, journal.events

    return solve


@pytest.fixture(scope="session")
def run_in() -> Callable[..., dict[tuple[str, int], Result]]:
    """Start or resume a run in a folder; return its results by problem and sample, without their times."""

    def run(out: Path, config: Config, models: Models, problems: Sequence[Problem]) -> dict[tuple[str, int], Result]:
        async def main() -> None:
            with anyio.fail_after(60):
                async with open_run(config, problems, out) as folder:
                    await run_problems(config, problems, models, folder, SilentWatcher())

        anyio.run(main)
        results = list(read_records(out / "results.jsonl", Result))
        found = {(result.solution.problem, result.solution.sample): _timeless(result) for result in results}
        assert len(found) == len(results)
        return found

    return run


def _timeless(result: Result) -> Result:
    """The same result with all times set to 0: clocks differ from run to run."""
    tree = msgspec.to_builtins(result)

    def clear(part: Any) -> None:
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):  # pyright: ignore
            if key == "seconds":
                part[key] = 0.0
            elif isinstance(value, dict | list | tuple):
                clear(value)

    tree = msgspec.json.decode(msgspec.json.encode(tree))
    clear(tree)
    return msgspec.convert(tree, Result)


def _share(*parts: object) -> float:
    """A number in [0, 1) that depends only on ``parts``."""
    return int.from_bytes(hashlib.blake2b(msgspec.json.encode(parts), digest_size=6).digest(), "big") / 2**48
