"""Tests with real sglang servers. The core rules run in every test run where sglang is installed."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from arbiter.config.config import Config, load_config, override, parse
from arbiter.runs.bench import bench
from arbiter.runs.folder import read_records
from arbiter.runs.progress import PlainWatcher
from arbiter.runs.results import Result, Summary
from tests.servers.asking import Model
from tests.servers.engines import SGLANG
from tests.servers.rules import GenerationRules
from tests.servers.scoring_rules import ScoringRules
from tests.servers.token_rules import TokenRules

ENGINE = SGLANG
PROBLEMS = 40
ROLES = ["draft", "target", "router"]


class TestGenerationBehindSglang(GenerationRules):
    pass


class TestTokensBehindSglang(TokenRules):
    pass


class TestScoresBehindSglang(ScoringRules):
    pass


@pytest.fixture(scope="module")
def pocket() -> Config:
    """The pocket benchmark with its models in process, 64 problems concurrently, at temperature 0."""
    keys: dict[str, Any] = {"run_type": "router", "data": {"limit": PROBLEMS}, "limits": {"problems": 64}}
    return override(load_config("pocket"), keys, "test")


async def solved(config: Config, folder: Path) -> tuple[Summary, dict[str, list[tuple[str, str]]]]:
    """Return the summary of a run, and the author and text of each problem's steps."""
    summary, path = await bench(config, folder, PlainWatcher(Console(stderr=True)))
    solutions = [result.solution for result in read_records(path / "results.jsonl", Result)]
    return summary, {one.problem: [(step.kept.author, step.kept.text) for step in one.steps] for one in solutions}


@pytest.mark.asyncio
async def test_the_pocket_benchmark_has_the_transcripts_that_it_has_in_process(
    pocket: Config, models: dict[str, Model], tmp_path: Path
) -> None:
    tree = msgspec.to_builtins(pocket)
    for role in ROLES:
        table = tree["models"][role]
        keys = {"prompt": table["prompt"], "annotate": table.get("annotate", False), "in_flight": 64}
        tree["models"][role] = {**models[role].table, **keys, "retries": 3}
    summary, there = await solved(parse(tree, "test"), tmp_path / "served")
    _, here = await solved(pocket, tmp_path / "here")
    assert there == here
    assert len(there) == PROBLEMS
    assert summary.failed == 0
    assert sum(tokens.cached for tokens in summary.tokens.values()) > 0
