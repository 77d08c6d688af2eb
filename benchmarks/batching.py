"""Compare the same pocket problems solved one at a time and all together, at temperature 0.

    python benchmarks/batching.py [--limit 100] [--run-type router] [--json]

The ring's results do not depend on the order of requests; a property test checks that. Any difference here comes from
the models' arithmetic: batching changes the order of summation, which can flip a near tie between two tokens.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from rich.console import Console

from arbiter.config.config import load_config, override
from arbiter.config.run_tables import RunType
from arbiter.runs.bench import bench
from arbiter.runs.folder import read_records
from arbiter.runs.progress import PlainWatcher
from arbiter.runs.results import Result

Transcript = list[tuple[str, str]]


class Comparison(msgspec.Struct, frozen=True):
    """The result of the comparison.

    ``differing`` of ``problems`` have different transcripts, ``differing_in_answer`` different grades.
    ``largest_score_gap`` is the largest difference between scores of the same step, before the transcripts diverge.
    """

    problems: int
    differing: int
    differing_in_answer: int
    largest_score_gap: float


def main(
    limit: int = 100, run_type: RunType = "router", as_json: Annotated[bool, Parameter(name="--json")] = False
) -> None:
    """Solve ``limit`` pocket problems with concurrency 1 and with concurrency ``limit``, and print the differences."""
    alone, together = (_results(limit, run_type, concurrency) for concurrency in (1, limit))
    differing = [problem for problem in alone if _transcript(alone[problem]) != _transcript(together[problem])]
    comparison = Comparison(
        problems=len(alone),
        differing=len(differing),
        differing_in_answer=sum(alone[problem].grade != together[problem].grade for problem in differing),
        largest_score_gap=max(_score_gap(alone[problem], together[problem]) for problem in alone),
    )
    sys.stdout.write(msgspec.json.encode(comparison).decode() if as_json else _sentence(comparison))
    sys.stdout.write("\n")


def _results(limit: int, run_type: RunType, concurrency: int) -> dict[str, Result]:
    changes = {"run_type": run_type, "data": {"limit": limit}, "limits": {"problems": concurrency}}
    config = override(load_config("pocket"), changes, "command line")
    with tempfile.TemporaryDirectory() as folder:
        _, path = anyio.run(partial(bench, config, Path(folder) / "run", PlainWatcher(Console(stderr=True))))
        return {result.solution.problem: result for result in read_records(path / "results.jsonl", Result)}


def _transcript(result: Result) -> Transcript:
    return [(step.kept.author, step.kept.text) for step in result.solution.steps]


def _score_gap(one: Result, other: Result) -> float:
    """Return the largest difference between two scores of the same candidate in the same context."""
    gap = 0.0
    for a, b in zip(one.solution.steps, other.solution.steps, strict=False):
        for x, y in zip(a.candidates, b.candidates, strict=False):
            if x.text == y.text and x.score is not None and y.score is not None:
                gap = max(gap, abs(x.score - y.score))
        if a.kept.text != b.kept.text:
            break
    return gap


def _sentence(comparison: Comparison) -> str:
    return (
        f"{comparison.differing} of {comparison.problems} transcripts differ, "
        f"{comparison.differing_in_answer} of them in their grade; "
        f"scores of equal steps differ by at most {comparison.largest_score_gap:.1e}"
    )


if __name__ == "__main__":
    cyclopts.run(main)
