"""The times of a run's answers are those that a client would see in a stream of steps."""

import json
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import Config, parse
from arbiter.config.serve_tables import SloTable
from arbiter.data import Problem
from arbiter.library.arbiter import Arbiter
from arbiter.log.run import Run
from arbiter.log.stream_times import StreamTimes, recorded_times
from arbiter.protocols.errors import BackendError, ProblemError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.runs.answer_times import answer_times
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run
from arbiter.runs.reports.reported_run import read_run
from arbiter.runs.reports.stream_figures import stream_rows
from arbiter.runs.results import Summary
from arbiter.runs.stored_summary import read_summary
from benchmarks.silent_watcher import SilentWatcher

InVirtualTime = Callable[[Callable[[], Awaitable[None]]], None]
Configs = Callable[..., Config]
Command = Callable[..., subprocess.CompletedProcess[str]]

ANSWERS = {
    "thinks": ("<think>\nforty and two", "so</think>\n\nIt is", "42."),
    "opened": ("forty and two", "so</think>\n\nIt is", "42."),
    "plain": ("It is", "surely", "42."),
    "break": ("It is", "", ""),
}
"""The steps of the answers to the questions. Each takes a second, and has four tokens."""


def written(request: GenerationRequest) -> Generation:
    question = request.transcript.question
    if question == "break" and request.step == 1:
        raise BackendError("the model fell over")
    return Generation(ANSWERS[question][request.step], "end" if request.step == 2 else "separator", Usage(10, 4))


@pytest.fixture
def recorded(in_virtual_time: InVirtualTime, tmp_path: Path) -> Run:
    """A run of all questions, one after the other."""
    model = ModelHandle(ScriptedGenerator(written, 1.0), 1)
    config = parse({"models": {}, "run_type": "target"}, "test")

    async def solve() -> None:
        async with Arbiter(config, models=Models(draft=None, target=model), out=tmp_path / "run") as arbiter:
            for question in ANSWERS:
                try:
                    await arbiter.solve(question)
                except ProblemError:
                    assert question == "break"

    in_virtual_time(solve)
    return Run.open(tmp_path / "run")


def times_of(run: Run) -> dict[str, tuple[StreamTimes, int] | None]:
    return {problem.task.question: recorded_times(problem) for problem in run.problems()}


@pytest.mark.parametrize(("question", "first_output"), [("thinks", 2.0), ("opened", 2.0), ("plain", 1.0)])
def test_the_log_tells_when_the_first_output_after_a_thought_was_there(
    recorded: Run, question: str, first_output: float
) -> None:
    found = times_of(recorded)[question]
    assert found is not None
    times, tokens = found
    assert (times.first, times.first_output, times.last) == pytest.approx((1.0, first_output, 3.0))
    assert tokens == 12


def test_a_failed_problem_has_no_times(recorded: Run) -> None:
    assert times_of(recorded)["break"] is None


def test_the_figures_of_a_run_are_over_its_answers_and_its_seconds(recorded: Run) -> None:
    figures = answer_times(recorded, SloTable(first_output_token=1.5), wall_seconds=10.0)
    assert (figures.answers, figures.good, figures.goodput) == (3, 1, 0.1)
    assert (figures.latency.p50, figures.latency.p95) == pytest.approx((3.0, 3.0))
    assert figures.inter_token.p50 == pytest.approx(2 / 11)
    [row] = stream_rows({"run": figures})
    assert row == ("run", "3", "1.00 / 1.00", "2.00 / 2.00", "0.1818 / 0.1818", "3.00 / 3.00", "1", "0.1/s")


def test_without_bounds_nothing_is_good_or_bad(recorded: Run) -> None:
    figures = answer_times(recorded, SloTable(), wall_seconds=10.0)
    assert (figures.good, figures.goodput) == (None, None)


async def bench_run(config: Config, out: Path, names: Sequence[str] = ("thinks", "plain")) -> Summary:
    """Solve and grade the questions ``names``. A folder that has a run continues it."""
    given = [Problem(name, name, "42") for name in names]
    models = Models(draft=None, target=ModelHandle(ScriptedGenerator(written), 1))
    async with open_run(config, given, out) as folder:
        return await run_problems(config, given, models, folder, SilentWatcher())


@pytest.fixture
def graded(a_config: Configs, tmp_path: Path) -> str:
    """The folder of a run of two problems, with its log and its results."""
    anyio.run(bench_run, a_config(run_type="target"), tmp_path / "graded")
    return str(tmp_path / "graded")


@pytest.mark.asyncio
async def test_the_summary_of_a_run_has_the_times_that_its_log_tells(a_config: Configs, tmp_path: Path) -> None:
    config = a_config(run_type="target", serve={"slo": {"latency": 3600}})
    summary = await bench_run(config, tmp_path)
    assert summary.stream_times == answer_times(Run.open(tmp_path), config.serve.slo, summary.wall_seconds)
    assert summary.stream_times is not None
    assert (summary.stream_times.answers, summary.stream_times.good) == (2, 2)
    assert read_summary(tmp_path, Summary) == summary


@pytest.mark.asyncio
async def test_a_resumed_run_has_the_times_of_all_sessions_together(a_config: Configs, tmp_path: Path) -> None:
    config, log = a_config(run_type="target"), tmp_path / "events.jsonl"
    await bench_run(config, tmp_path)
    lines = log.read_bytes().splitlines(keepends=True)
    [first, _] = [number for number, line in enumerate(lines) if b'"problem_ended"' in line]
    log.write_bytes(b"".join(lines[: first + 1]))
    times = (await bench_run(config, tmp_path)).stream_times
    assert times is not None
    assert times.answers == 2


@pytest.mark.parametrize(("record", "question"), [("decisions", "plain"), ("full", "break")])
@pytest.mark.asyncio
async def test_without_texts_in_the_log_or_answers_in_the_run_there_are_no_times(
    a_config: Configs, tmp_path: Path, record: str, question: str
) -> None:
    config = a_config(run_type="target", log={"record": record})
    assert (await bench_run(config, tmp_path, [question])).stream_times is None


def test_a_report_keeps_the_times_that_only_the_summary_has(graded: str) -> None:
    kept = read_summary(Path(graded), Summary)
    assert kept is not None
    assert kept.stream_times is not None
    assert read_run(Path(graded)).summary.stream_times == kept.stream_times


def test_the_report_has_the_times_if_they_are_wanted(graded: str, arbiter: Command) -> None:
    assert "times" not in json.loads(arbiter("report", graded, "--json").stdout)
    [times] = json.loads(arbiter("report", graded, "--slo", "latency=3600", "--json").stdout)["times"]
    assert (times["answers"], times["good"]) == (2, 2)
    assert "Times of streamed answers" in arbiter("report", graded, "--times").stdout


@pytest.mark.parametrize("bound", ["latency", "latency=soon", "nope=1", "latency=-1"])
def test_a_bound_that_is_none_is_refused_with_the_names(graded: str, arbiter: Command, bound: str) -> None:
    refused = arbiter("report", graded, "--slo", bound)
    assert refused.returncode != 0
    assert "NAME=SECONDS" in refused.stderr
    assert "first_output_token" in refused.stderr
