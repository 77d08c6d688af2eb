"""Count what each step boundary costs and gains, with the pocket models and the run type ``confidence``.

    python benchmarks/boundaries.py [--problems 300] [--data pocket:30] [--thresholds 0.8,0.95] [--json]

Each boundary solves the same problems at each threshold. Requests are those that the models get: a step of several
parts has one request to the ring and in the log, and one for each part here.

docs/explanation/boundaries.md has the results.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
import cyclopts
import msgspec
from markdown_tables import markdown
from silent_watcher import SilentWatcher

from arbiter.actors.ring_setup import Models
from arbiter.backends.bounded_steps import ReadsAnswers
from arbiter.backends.opening import open_tables, required_tables
from arbiter.backends.wrapped_generator import WrappedGenerator
from arbiter.config.config import Config, load_config
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle
from arbiter.protocols.records import Record
from arbiter.runs.bench import configured_problems, run_problems
from arbiter.runs.folder import open_run
from arbiter.runs.model_opening import with_step_ends
from arbiter.runs.results import Summary

BOUNDARIES: dict[str, dict[str, Any]] = {
    "each blank line": {},
    "tokens, 30": {"boundary": {"kind": "tokens", "tokens": 30}},
    "tokens, 60": {"boundary": {"kind": "tokens", "tokens": 60}},
    "sentence, at each line": {"separator": "\n", "boundary": {"kind": "sentence"}},
    'mark, before "the"': {"boundary": {"kind": "mark", "marks": ["the"]}},
    "each space": {"separator": " "},
}
COLUMNS = (
    "boundary",
    "τ",
    "steps per problem",
    "acceptance",
    "accuracy",
    "target's tokens per problem",
    "requests per problem: draft, target",
)


class BoundaryFigures(Record, frozen=True):
    """What a boundary needed per problem at a threshold, and how many answers were right.

    ``draft_requests`` and ``target_requests`` count every part of a step. ``target_tokens`` are those of steps, and of
    texts that were read ahead and dropped.
    """

    boundary: str
    threshold: float
    steps: float
    acceptance: float
    accuracy: float
    interval: tuple[float, float]
    target_tokens: float
    draft_requests: float
    target_requests: float


class Counter(WrappedGenerator):
    """A ``Generator`` that counts requests and written tokens."""

    def __init__(self, inner: Generator) -> None:
        super().__init__(inner)
        self.requests = self.tokens = 0

    async def generate(self, request: GenerationRequest) -> Generation:
        self.requests += 1
        made = await self.inner.generate(request)
        self.tokens += made.usage.completion_tokens
        return made


def _counted(models: Models) -> tuple[Models, list[Counter]]:
    """Return ``models`` whose draft and target are counted, and their counters."""
    counters: list[Counter] = []

    def count(generator: Generator) -> Generator:
        counters.append(Counter(generator))
        return counters[-1]

    def wrap(handle: ModelHandle[Generator] | None) -> ModelHandle[Generator] | None:
        if handle is None:
            return None
        port = handle.port.over(count) if isinstance(handle.port, ReadsAnswers) else count(handle.port)
        return msgspec.structs.replace(handle, port=port)

    return msgspec.structs.replace(models, draft=wrap(models.draft), target=wrap(models.target)), counters


async def _run(config: Config, out: Path) -> tuple[Summary, list[Counter]]:
    problems = configured_problems(config)
    async with (
        open_tables(required_tables(config), config.cpu_threads, separator=config.separator) as models,
        open_run(config, problems, out) as folder,
    ):
        counted, counters = _counted(models)
        writing = with_step_ends(counted, config)
        return await run_problems(config, problems, writing, folder, SilentWatcher()), counters


def measure(name: str, threshold: float, problems: int, data: str) -> BoundaryFigures:
    """Return the figures of the boundary ``name`` of ``BOUNDARIES``."""
    changes = {
        "run_type": "confidence",
        "thresholds": {"confidence": threshold},
        "verify": "off",
        "data": {"source": data, "limit": problems},
        "limits": {"max_steps": 100, "step_tokens": 300},
        **BOUNDARIES[name],
    }
    with tempfile.TemporaryDirectory() as folder:
        summary, (draft, target) = anyio.run(_run, load_config("pocket", changes), Path(folder) / "run")
    return BoundaryFigures(
        boundary=name,
        threshold=threshold,
        steps=summary.steps / problems,
        acceptance=summary.acceptance_rate or 0.0,
        accuracy=summary.accuracy or 0.0,
        interval=summary.accuracy_interval or (0.0, 1.0),
        target_tokens=target.tokens / problems,
        draft_requests=draft.requests / problems,
        target_requests=target.requests / problems,
    )


def _cells(one: BoundaryFigures) -> list[str]:
    low, high = one.interval
    return [
        one.boundary,
        f"{one.threshold:g}",
        f"{one.steps:.1f}",
        f"{one.acceptance:.0%}",
        f"{one.accuracy:.1%} ({low:.1%} to {high:.1%})",
        f"{one.target_tokens:.0f}",
        f"{one.draft_requests:.1f}, {one.target_requests:.1f}",
    ]


def main(*, problems: int = 300, data: str = "pocket:30", thresholds: str = "0.8,0.95", json: bool = False) -> None:
    """Print a table with a row per boundary and threshold, or a list of objects in JSON."""
    found = [measure(name, float(one), problems, data) for name in BOUNDARIES for one in thresholds.split(",")]
    text = msgspec.json.encode(found).decode() if json else markdown(" | ".join(COLUMNS), map(_cells, found))
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    cyclopts.run(main)
