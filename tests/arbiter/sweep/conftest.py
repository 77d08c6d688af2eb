"""Scripted models whose answers depend only on their input, and report how long they took."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.data import Problem
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, Score, Scorer, ScoreRequest
from arbiter.protocols.records import ScoreKind, Transcript, Usage
from arbiter.runs.results import Result
from arbiter.sweep.points import SweepPoint
from arbiter.sweep.runner import SweepJob, run_alone, run_together
from arbiter.sweep.sweep import settle
from arbiter.sweep.sweep_results import SweepResult
from benchmarks.silent_watcher import SilentWatcher

Request = GenerationRequest | ScoreRequest
SCALES: tuple[ScoreKind, ...] = ("prm", "router", "judge")


def share(*parts: object) -> float:
    """Return a number in [0, 1) that depends only on ``parts``."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=6).digest(), "big") / 2**48


def seen(transcript: Transcript) -> tuple[str, ...]:
    return transcript.question, *(step.text for step in transcript.steps)


class Timed:
    """A scripted port that reports how long each answer took, without waiting."""

    def __init__(self, inner: ScriptedGenerator | ScriptedScorer, seed: int) -> None:
        self._inner: Any = inner
        self._seed = seed

    async def generate(self, request: GenerationRequest) -> Generation:
        made: Generation = await self._inner.generate(request)
        taken = round(0.1 + share(self._seed, request.author, seen(request.transcript)), 3)
        return Generation(
            made.text, made.stop_reason, made.usage, seconds=taken, fresh=True, confidence=made.confidence
        )

    async def score(self, request: ScoreRequest) -> Score:
        made: Score = await self._inner.score(request)
        taken = round(0.01 + share(self._seed, request.candidate) / 10, 3)
        return Score(made.value, made.usage, seconds=taken, fresh=True)


@pytest.fixture(scope="session")
def a_seen_world() -> Callable[..., Models]:
    """Models that depend only on the texts of a context.

    ``requested`` is called with each request at a model; ``fails`` is the share of those that fail.
    """

    def build(
        seed: int = 0, fails: float = 0.0, in_flight: int = 64, requested: Callable[[Request], None] = lambda _: None
    ) -> Models:
        def write(request: GenerationRequest) -> Generation:
            requested(request)
            noise = request.seed if request.temperature else 0
            drawn = share(seed, request.author, seen(request.transcript), noise)
            if share(seed, "fails", drawn) < fails:
                raise BackendError(f"the {request.author} fell over") from OSError("no route")
            ending = "end" if drawn < 0.2 else "separator"
            sure = max(share(seed, "sure", drawn), 0.01) if request.confidence else None
            return Generation(
                f"{request.author} {drawn:.3f} \\boxed{{7}}", ending, Usage(9, 1 + int(10 * drawn)), confidence=sure
            )

        def rate(request: ScoreRequest) -> float:
            requested(request)
            return share(seed, request.score_kind, seen(request.transcript), request.candidate)

        writer = Timed(ScriptedGenerator(write), seed)
        scorer = Timed(ScriptedScorer(rate), seed)
        return Models(
            draft=ModelHandle(writer, in_flight),
            target=ModelHandle(writer, in_flight),
            scorers=dict.fromkeys(SCALES, ModelHandle[Scorer](scorer, in_flight)),
        )

    return build


class Quiet(SilentWatcher):
    """A watcher that stores its notices."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.solved_so_far = 0

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def started(self, solutions: int, earlier: Sequence[Result]) -> None:
        self.notices.append(f"{len(earlier)} of {solutions}")

    def solved(self, result: Result) -> None:
        self.solved_so_far += 1


@pytest.fixture
def quiet() -> Quiet:
    return Quiet()


@pytest.fixture(scope="session")
def swept() -> Callable[..., SweepResult]:
    """Run or continue a sweep over scripted models, with shared answers or ``alone``, and return its figures."""

    def run(
        out: Path,
        points: Sequence[SweepPoint],
        models: Models,
        problems: Sequence[Problem],
        alone: bool = False,
        retry_failed: bool = False,
    ) -> SweepResult:
        job = SweepJob(points, problems, out, Quiet(), retry_failed=retry_failed)

        async def main() -> bool:
            with anyio.fail_after(60):
                return await (run_alone if alone else run_together)(job, models)

        return settle(job, alone, anyio.run(main))

    return run


@pytest.fixture(scope="session")
def questions() -> Callable[[int], list[Problem]]:
    def build(count: int) -> list[Problem]:
        return [Problem(str(n), f"question {n}", "7") for n in range(count)]

    return build
