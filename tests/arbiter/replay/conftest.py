"""Recordings of scripted models on a real event loop, with failures, deadlines, limits and interruptions."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.actors.controllers import Verify
from arbiter.actors.requests import note_retry
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.protocols.errors import BackendError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Gather, Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Limits, PrefixMatch, Sampling, Solution, Transcript, Usage
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall

MILLISECOND = 0.001
RULES = AnswerRules((Tool("add", parameters='{"required": ["a"]}'),))
VERIFY: tuple[Verify, ...] = ("off", "on", "auto")


def share(*parts: object) -> float:
    """Return a number in [0, 1) that depends only on ``parts``."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=6).digest(), "big") / 2**48


def a_world(seed: int, failures: float) -> Models:
    """Models whose answers, times and failures depend on the seed and the call."""

    def write(request: GenerationRequest) -> Generation:
        if share(seed, "busy", request.call) < 0.2:
            note_retry(1, 0.0, "busy", busy=True)
        if share(seed, "fails", request.call) < failures:
            raise BackendError("the model fell over") from OSError("no route")
        drawn = share(seed, "ends", request.call)
        ending = "end" if drawn < 0.15 else "limit" if drawn < 0.2 else "separator"
        text = (
            "again" if share(seed, "text", request.call) < 0.3 else f"{request.author} {request.step} {request.sample}"
        )
        agreement = PrefixMatch(3, 2) if request.proposal and share(seed, "checks", request.call) < 0.7 else None
        overhead = Usage(1, 1) if drawn > 0.9 else Usage()
        if request.transcript.rules is not None and (drawn := share(seed, "calls", request.call, request.seed)) < 0.3:
            wrong = [share(seed, "wrong", request.call, index) < 0.3 for index in range(int(drawn * 10) + 1)]
            calls = tuple(ToolCall("", "add", "{}" if one else '{"a": 1}') for one in wrong)
            return Generation("I add." if drawn > 0.2 else "", "end", Usage(5, 3), overhead, calls=calls)
        sure = max(share(seed, "sure", request.call), 0.01) if request.confidence else None
        return Generation(text, ending, Usage(5, 3), overhead, agreement, confidence=sure)

    def rate(request: ScoreRequest) -> float | tuple[float, ...]:
        drawn = share(seed, "score", request.call)
        if drawn < failures:
            raise BackendError("the scorer fell over")
        if drawn > 0.99:
            return 7.0  # out of range, which is also a failure
        return (drawn, share(seed, "other target", request.call)) if request.score_kind == "router" else drawn

    def seconds(request: GenerationRequest | ScoreRequest) -> float:
        return MILLISECOND * share(seed, "time", request.call) if share(seed, "slow", request.call) < 0.7 else 0.0

    rng = random.Random(seed)
    gather = rng.choice([None, Gather(MILLISECOND), Gather(2 * MILLISECOND, 0.25)])
    return Models(
        draft=ModelHandle(
            ScriptedGenerator(write, seconds, writes_blocks=seed % 2 == 0),
            rng.choice([1, 3, 100]),
            rng.choice([True, False]),
            adaptive=True,
        ),
        target=ModelHandle(ScriptedGenerator(write, seconds), rng.choice([1, 3, 100]), gather=gather),
        scorers={
            "prm": ModelHandle(ScriptedScorer(rate, seconds), 2),
            "router": ModelHandle(ScriptedScorer(rate, seconds), 50),
            "judge": ModelHandle(ScriptedScorer(rate, seconds), 3),
        },
        targets={
            "small": ModelHandle(ScriptedGenerator(write, seconds), rng.choice([1, 3, 100]), gather=gather),
            "large": ModelHandle(ScriptedGenerator(write, seconds), 2),
        },
    )


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Run]:
    """Solve the tasks and write the log. ``cut`` interrupts the run after that many seconds."""

    def make(
        models: Models,
        tasks: list[Task],
        name: str = "run",
        concurrency: int = 4,
        cut: float = 60.0,
        lookahead: int | None = 0,
        verify: Verify = "off",
        salvage: bool = False,
        block: int = 1,
    ) -> Run:
        async def done(_: Solution) -> None:
            """Do nothing: the log has everything."""

        async def body() -> None:
            async with (
                open_journal(tmp_path / name / "events.jsonl", {"run_type": "test"}) as journal,
                open_ring(
                    models, journal=journal, lookahead=lookahead, verify=verify, salvage=salvage, block=block
                ) as ring,
            ):
                with anyio.move_on_after(cut):
                    await solve_all(ring, tasks, concurrency, done)

        anyio.run(body)
        return Run.open(tmp_path / name)

    return make


@pytest.fixture
def a_recording(record: Callable[..., Run]) -> Callable[..., Run]:
    """Record twelve decodings, with all properties drawn from ``seed``."""

    def make(seed: int, policy: Policy) -> Run:
        rng = random.Random(seed)
        failures = rng.choice([0.0, 0.0, 0.05, 0.2])
        tasks = [
            Task(
                id=f"p{number // 2}",
                transcript=Transcript(f"question {number // 2}", rules=RULES if seed % 2 else None),
                policy=policy,
                limits=Limits(max_steps=6, deadline=rng.choice([None, None, 4 * MILLISECOND, 10 * MILLISECOND])),
                sampling=Sampling(rng.choice([0.0, 0.5]), 1.0, rng.choice([1, 3])),
                seed=number % 2,
                audit=rng.choice([0.0, 0.7]),
                sample=number % 2,
            )
            for number in range(12)
        ]
        cut = 0.01 if rng.random() < 0.3 else 60.0
        concurrency, lookahead = rng.choice([1, 4, 12]), rng.choice([0, 1, 3, None])
        verify, salvage = rng.choice(VERIFY), rng.choice([True, False])
        block = 3 if seed % 3 == 2 else 1
        lookahead, salvage = (0, False) if block > 1 else (lookahead, salvage)
        world = a_world(seed, failures)
        return record(world, tasks, f"run-{seed}", concurrency, cut, lookahead, verify, salvage, block)

    return make


@pytest.fixture
def altered() -> Callable[..., Run]:
    """Copy a log with one event per line, and change the event number ``line`` or end the copy before it."""

    def make(run: Run, line: int, change: Callable[[dict[str, Any]], None] | None) -> Run:
        events = [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(run.events())]
        lines = [msgspec.json.encode(event) + b"\n" for event in events]
        if change is None:
            changed = [*lines[:line], lines[line][:25]]
        else:
            event = msgspec.json.decode(lines[line])
            change(event)
            changed = [*lines[:line], msgspec.json.encode(event) + b"\n", *lines[line + 1 :]]
        path = run.path.with_name("altered.jsonl")
        path.write_bytes(b"".join(changed))
        return Run.open(path)

    return make
