"""Compare a sweep that shares its answers with separate runs: requests and tokens.

    python benchmarks/sweep.py [--limit 40] [--thresholds 0:1:0.1] [--problems 40] [--seed 0] [--json]

- ``pocket``: the pocket models, once in a sweep over the learned router's thresholds and once in a run per point.
- ``routed`` and ``uniform``: scripted models, on problems of 15 to 40 steps. Texts and scores are drawn from the whole
  context. So two points share nothing after the first decision in which they differ. ``routed`` draws the scores as
  the pocket router gives them (``ROUTER_SCORES``). ``uniform`` draws them uniformly, as no trained router does; then
  points diverge soonest.

``separate`` are the requests of the runs that shared nothing; these runs are really made. ``of_separate`` and
``of_most`` are the ratios of the sweep's requests to all of them, and to those of the point that needs most. Tokens are
those written and those read.
"""

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from rich.console import Console

from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, load_config, override
from arbiter.data import Problem
from arbiter.data.tasks import make_task
from arbiter.log.run import Run
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Solution, Transcript, Usage
from arbiter.runs.progress import PlainWatcher
from arbiter.simulation.synthetic_workload import Quantiles
from arbiter.sweep.answer_cache import annotated_models, key_of
from arbiter.sweep.log_answers import NOTHING_SPENT, Spent, counted
from arbiter.sweep.points import SweepPoint, plan
from arbiter.sweep.runner import SweepJob, run_together
from arbiter.sweep.sweep import SweepRequest, sweep

FEWEST, MOST = 15, 40
TOKENS = 40  # of a step and of a question
THRESHOLDS = "0:1:0.1"

# fmt: off
ROUTER_SCORES = Quantiles((
    0.0002, 0.004, 0.0076, 0.012, 0.0178, 0.024, 0.0296, 0.039, 0.0498, 0.0653, 0.0852,
    0.1033, 0.1308, 0.1684, 0.2268, 0.2982, 0.409, 0.5753, 0.7955, 0.947, 0.999,
))
# fmt: on
"""The scores of the pocket router by their quantiles: 880 steps of the 200 problems of ``arbiter bench pocket``."""


class Found(msgspec.Struct, frozen=True):
    """The result of one comparison; ``seconds`` are the wall times of the sweep and of the separate runs."""

    points: int
    problems: int
    steps: float
    made: Spent
    separate: Spent
    of_separate: float
    of_most: float
    tokens_of_separate: float
    seconds: tuple[float, float]


def main(
    *,
    limit: int = 40,
    thresholds: str = THRESHOLDS,
    problems: int = 40,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Compare over ``limit`` pocket problems and over ``problems`` scripted ones."""
    results = {"pocket": _pocket(limit, thresholds), **scripted(problems, thresholds, seed)}
    sys.stdout.write(msgspec.json.encode(results).decode() if as_json else table(results))
    sys.stdout.write("\n")


def scripted(problems: int = 40, thresholds: str = THRESHOLDS, seed: int = 0) -> dict[str, Found]:
    """Compare over scripted models, whose router scores like the pocket router (``routed``) or at random (``uniform``).

    Raises ``RuntimeError`` if a separate run needed other requests than its point of the sweep.
    """
    return {
        "routed": _scripted(problems, thresholds, seed, ROUTER_SCORES.at),
        "uniform": _scripted(problems, thresholds, seed, lambda drawn: drawn),
    }


def _pocket(limit: int, thresholds: str) -> Found:
    config = override(load_config("pocket"), {"data": {"limit": limit}}, "--limit")
    points = plan(config, ["router"], [thresholds])
    watcher = PlainWatcher(Console(stderr=True))
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        shared, _ = sweep(SweepRequest(config, points), Path(folder) / "shared", watcher)
        between = time.monotonic()
        alone, _ = sweep(SweepRequest(config, points, measure=True), Path(folder) / "alone", watcher)
        seconds = between - began, time.monotonic() - between
        rows = [row.summary for row in shared.points if row.summary]
        steps = sum(summary.steps for summary in rows) / sum(summary.problems for summary in rows)
        needed = [row.requests.needed for row in alone.points]
        return _found(points, limit, steps, shared.made, needed, seconds)


def _found(
    points: Sequence[SweepPoint],
    problems: int,
    steps: float,
    made: Spent,
    needed: Sequence[Spent],
    seconds: tuple[float, float],
) -> Found:
    separate, most = sum(needed, NOTHING_SPENT), max(spent.requests for spent in needed)
    return Found(
        points=len(points),
        problems=problems,
        steps=round(steps, 2),
        made=made,
        separate=separate,
        of_separate=round(made.requests / separate.requests, 4),
        of_most=round(made.requests / most, 4),
        tokens_of_separate=round(_tokens(made) / _tokens(separate), 4),
        seconds=(round(seconds[0], 1), round(seconds[1], 1)),
    )


def _tokens(spent: Spent) -> int:
    return spent.prompt_tokens + spent.completion_tokens


def _scripted(problems: int, thresholds: str, seed: int, score: Callable[[float], float]) -> Found:
    limits = {"max_steps": MOST, "max_tokens": MOST * TOKENS, "problems": 256}
    config = override(load_config("pocket"), {"limits": limits}, "benchmark")
    points = plan(config, ["router"], [thresholds])
    given = [Problem(f"problem-{seed}-{number}", f"question {seed} {number}", None) for number in range(problems)]
    began = time.monotonic()
    made, needed = _together(points, given, score)
    between = time.monotonic()
    alone = [anyio.run(_alone, point.config, given, score) for point in points]
    if [spent for spent, _ in alone] != needed:
        raise RuntimeError("the separate runs and the points of the sweep needed different requests")
    steps = sum(count for _, count in alone) / len(points) / problems
    return _found(points, problems, steps, made, needed, (between - began, time.monotonic() - between))


def _together(
    points: Sequence[SweepPoint], problems: Sequence[Problem], score: Callable[[float], float]
) -> tuple[Spent, list[Spent]]:
    """Run a sweep; return the requests that it made, and those that each of its points needed."""
    with tempfile.TemporaryDirectory() as folder:
        job = SweepJob(points, problems, Path(folder), PlainWatcher(Console(stderr=True)))
        anyio.run(run_together, job, _models(score))
        runs = {point.name: Run.open(Path(folder) / point.name).problems() for point in points}
        annotated = annotated_models(points[0].config)
        counts = counted(runs, lambda request: key_of(request, annotated))
    made = sum((count.made for count in counts.values()), NOTHING_SPENT)
    return made, [count.needed for count in counts.values()]


async def _alone(config: Config, problems: Sequence[Problem], score: Callable[[float], float]) -> tuple[Spent, int]:
    """Run one point alone; return the requests that it made and the number of its steps."""
    spent, steps = NOTHING_SPENT, 0

    async def done(solution: Solution) -> None:
        nonlocal spent, steps
        steps += len(solution.steps)
        for counts in solution.requests.values():
            spent += Spent(counts.requests, counts.usage.prompt_tokens, counts.usage.completion_tokens)

    async with open_ring(_models(score)) as ring:
        await solve_all(ring, (make_task(config, problem) for problem in problems), config.limits.problems, done)
    return spent, steps


def _models(score: Callable[[float], float]) -> Models:
    def write(request: GenerationRequest) -> Generation:
        length = FEWEST + int(_drawn(request.transcript.question) * (MOST - FEWEST + 1))
        ending = "end" if len(request.transcript.steps) == length - 1 else "separator"
        text = f"{request.author} {_drawn(request.author, _texts(request.transcript))}"
        return Generation(text, ending, Usage(_read(request.transcript), TOKENS))

    def rate(request: ScoreRequest) -> float:
        return score(_drawn("score", request.candidate, _texts(request.transcript)))

    writer = ModelHandle(ScriptedGenerator(write))
    return Models(draft=writer, target=writer, scorers={"router": ModelHandle(ScriptedScorer(rate))})


def _texts(transcript: Transcript) -> tuple[str, ...]:
    return transcript.question, *(step.text for step in transcript.steps)


def _read(transcript: Transcript) -> int:
    return TOKENS * (1 + len(transcript.steps))


def _drawn(*parts: object) -> float:
    """Return a number in [0, 1) that depends on ``parts`` alone."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=6).digest(), "big") / 2**48


def table(results: dict[str, Found]) -> str:
    """Return the results as a table in Markdown."""
    lines = [
        "| sweep | points | problems | steps per problem | requests made | / separate runs | / most expensive point "
        "| tokens written | / separate | tokens read and written / separate | seconds: sweep, separate |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in results.items():
        cells: list[Any] = [
            name,
            one.points,
            one.problems,
            f"{one.steps:.1f}",
            f"{one.made.requests} of {one.separate.requests}",
            f"{one.of_separate:.1%}",
            f"{one.of_most:.2f}",
            f"{one.made.completion_tokens} of {one.separate.completion_tokens}",
            f"{one.made.completion_tokens / one.separate.completion_tokens:.1%}",
            f"{one.tokens_of_separate:.1%}",
            f"{one.seconds[0]:.1f}, {one.seconds[1]:.1f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    cyclopts.run(main)
