"""Reports on folders that have the log alone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import pytest
from rich.console import Console

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.grading.answers import Reference
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run
from arbiter.runs.progress import PlainWatcher
from arbiter.runs.reports.report import read_run, report_on

Configs = Callable[..., Config]

PROBLEMS = [Problem("a", "1", "1"), Problem("b", "2", "3"), Problem("c", "3", Reference(("3",), tolerance=(0.1,)))]


def boxed(request: GenerationRequest) -> Generation:
    return Generation(f"\\boxed{{{request.transcript.question}}}", "end", Usage(9, 2))


def finished(config: Config, folder: Path) -> Path:
    models = Models(
        draft=ModelHandle(ScriptedGenerator(boxed)),
        target=ModelHandle(ScriptedGenerator(boxed)),
        scorers={"router": ModelHandle(ScriptedScorer(lambda _request: 0.2))},
    )

    async def run() -> None:
        async with open_run(config, PROBLEMS, folder) as opened:
            await run_problems(config, PROBLEMS, models, opened, PlainWatcher(Console(quiet=True)))

    anyio.run(run)
    return folder


def log_alone(folder: Path, copy: Path, *also: str) -> Path:
    copy.mkdir()
    for name in ("events.jsonl", *also):
        shutil.copy(folder / name, copy / name)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("also", [(), ("config.toml",)])
@pytest.mark.parametrize("keys", [{}, {"run_type": "draft"}, {"sampling": {"samples": 2, "temperature": 0.5}}])
def test_the_report_is_that_of_the_whole_folder(
    a_config: Configs, tmp_path: Path, also: tuple[str, ...], keys: dict[str, object]
) -> None:
    folder = finished(a_config(**keys), tmp_path / "whole")
    whole, alone = read_run(folder), read_run(log_alone(folder, tmp_path / "log", *also))
    assert (alone.state, alone.questions) == (whole.state, whole.questions)
    unknown: dict[str, object] = {"cpu_seconds": None, "wall_seconds": None, "stream_times": None}
    unknown |= {"kv_memory": {}, "prefix_caches": {}}
    assert msgspec.structs.replace(alone.summary, **unknown) == msgspec.structs.replace(whole.summary, **unknown)
    assert alone.summary.wall_seconds == pytest.approx(whole.summary.wall_seconds, abs=0.1)


@pytest.mark.slow
def test_a_log_without_its_end_is_an_unfinished_run(a_config: Configs, tmp_path: Path) -> None:
    folder = log_alone(finished(a_config(), tmp_path / "whole"), tmp_path / "log")
    log = folder / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    report = report_on([folder])
    assert (report.runs[0].state, report.runs[0].summary.wall_seconds) == ("unfinished", None)
    assert [warning for warning in report.warnings if "log is unfinished" in warning]
