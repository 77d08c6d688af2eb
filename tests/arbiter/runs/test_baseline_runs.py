"""A run is compared with the draft alone and the target alone: which runs are made, reused, continued and stored."""

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, load_config
from arbiter.data import Problem
from arbiter.log.checksums import of_document
from arbiter.log.run import Run
from arbiter.protocols.errors import BackendError, RunError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.runs.baseline_runs import Compared, check_resumable, compare
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import check_run, open_run
from arbiter.runs.regrading import regrade
from arbiter.runs.reports.report import report_on
from arbiter.runs.results import Summary
from arbiter.runs.stored_config import as_toml
from benchmarks.silent_watcher import SilentWatcher

Configs = Callable[..., Config]
Script = Callable[[GenerationRequest], Generation]

PROBLEMS = [Problem(str(n), str(n), str(n)) for n in range(4)]


def right(request: GenerationRequest) -> Generation:
    return Generation(f"\\boxed{{{request.transcript.question}}}", "end", Usage(5, 3))


def wrong(request: GenerationRequest) -> Generation:
    return Generation("\\boxed{99}", "end", Usage(5, 2))


class Runs:
    """Makes the runs of a comparison with scripted models, and records which were made and what was said.

    Draft steps of problems 0 and 1 are escalated. ``target`` is the script of the target.
    """

    def __init__(self, path: Path, target: Script = right) -> None:
        self.path = path
        self.target = target
        self.made: list[str] = []
        self.said: list[str] = []

    def compare(self, config: Config, retry_failed: bool = False) -> Compared:
        solve = partial(self.solve, retry_failed=retry_failed)
        return compare(config, PROBLEMS, self.path, solve, self.said.append, retry_failed)

    def solve(self, config: Config, out: Path, retry_failed: bool = False) -> Summary:
        self.made.append(config.run_type)
        models = Models(
            draft=ModelHandle(ScriptedGenerator(wrong)),
            target=ModelHandle(ScriptedGenerator(self.target)),
            scorers={"router": ModelHandle(ScriptedScorer(lambda request: float(request.problem in {"0", "1"})))},
        )

        async def run() -> Summary:
            async with open_run(config, PROBLEMS, out, retry_failed=retry_failed) as folder:
                return await run_problems(config, PROBLEMS, models, folder, SilentWatcher())

        return anyio.run(run)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "run")


def stored(path: Path) -> Summary:
    return msgspec.json.decode(of_document((path / "summary.json").read_bytes()), type=Summary)


def test_the_draft_alone_the_target_alone_and_then_the_run_solve_the_same_problems(
    runs: Runs, a_config: Configs
) -> None:
    summary = runs.compare(a_config(compare=True)).summary
    assert runs.made == ["draft", "target", "router"]
    found = summary.comparison or {}
    assert {role: (run.problems, run.accuracy) for role, run in found.items()} == {"draft": (4, 0), "target": (4, 1)}
    assert (summary.problems, summary.accuracy) == (4, 0.5)
    assert [found[role].target_tokens for role in ("draft", "target")] == [0, 12]
    assert summary.tokens["target"].kept == 6


def test_the_figures_of_a_baseline_are_those_of_its_own_summary(runs: Runs, a_config: Configs) -> None:
    found = runs.compare(a_config(compare=True)).summary.comparison or {}
    for run in found.values():
        summary = stored(Path(run.run))
        assert (run.wall_seconds, run.cpu_seconds) == (summary.wall_seconds, summary.cpu_seconds)
        assert (run.mean_seconds, run.accuracy_interval) == (summary.latency.mean, summary.accuracy_interval)
        assert summary.comparison is None


def test_the_comparison_is_stored_with_the_run(runs: Runs, a_config: Configs) -> None:
    summary = runs.compare(a_config(compare=True)).summary
    assert stored(runs.path) == summary
    assert summary.comparison is not None
    assert [Path(run.run).name for run in summary.comparison.values()] == ["run-draft", "run-target"]


def test_a_baseline_can_be_repeated_alone_by_its_folder(runs: Runs, a_config: Configs) -> None:
    runs.compare(a_config(compare=True))
    baseline = load_config(str(runs.path.with_name("run-target") / "config.toml"))
    assert (baseline.run_type, baseline.compare) == ("target", False)


def test_runs_that_are_finished_are_read_and_not_made_again(runs: Runs, a_config: Configs) -> None:
    first = runs.compare(a_config(compare=True)).summary
    runs.made.clear()
    assert runs.compare(a_config(compare=True)).summary == first
    assert runs.made == []
    assert len(runs.said) == 3


def test_another_policy_reuses_the_baselines_of_its_folder_and_is_refused_itself(runs: Runs, a_config: Configs) -> None:
    runs.compare(a_config(compare=True))
    runs.made.clear()
    with pytest.raises(RunError, match=r"thresholds\.router: 0\.5 in the run, 0\.9 now"):
        runs.compare(a_config(compare=True, thresholds={"router": 0.9}))
    assert runs.made == []


def test_a_finished_run_that_was_not_compared_gets_a_comparison_and_keeps_its_figures(
    runs: Runs, a_config: Configs
) -> None:
    alone = runs.solve(a_config(), runs.path)
    summary = runs.compare(a_config(compare=True)).summary
    assert runs.made == ["router", "draft", "target"]
    assert msgspec.structs.replace(summary, comparison=None) == alone
    assert set(summary.comparison or {}) == {"draft", "target"}


def test_a_signal_during_a_baseline_ends_the_comparison_and_all_of_it_is_resumed(runs: Runs, a_config: Configs) -> None:
    def interrupted(request: GenerationRequest) -> Generation:
        if request.problem == "2":
            signal.raise_signal(signal.SIGINT)
        return right(request)

    runs.target = interrupted
    config = a_config(compare=True, limits={"problems": 1})
    found = runs.compare(config)
    assert (found.interrupted, found.summary.run_type, found.summary.interrupted) == ("target", "target", True)
    check_resumable(runs.path)
    assert load_config(str(runs.path / "config.toml")) == config

    runs.made.clear()
    runs.target = right
    whole = runs.compare(load_config(str(runs.path / "config.toml")))
    assert (whole.interrupted, runs.made) == (None, ["target", "router"])
    assert {role: run.problems for role, run in (whole.summary.comparison or {}).items()} == {"draft": 4, "target": 4}
    assert Run.open(runs.path).started.session == 0


def test_a_run_that_is_interrupted_itself_has_no_comparison_until_it_is_finished(runs: Runs, a_config: Configs) -> None:
    config = a_config(compare=True, limits={"problems": 1})

    def interrupted(request: GenerationRequest) -> Generation:
        if runs.made[-1] == "router":
            signal.raise_signal(signal.SIGINT)
        return right(request)

    runs.target = interrupted
    found = runs.compare(config)
    assert (found.interrupted, found.summary.run_type, found.summary.comparison) == (None, "router", None)
    assert found.summary.interrupted
    runs.target, runs.made = right, []
    finished = runs.compare(config).summary
    assert (runs.made, finished.problems, finished.cpu_seconds) == (["router"], 4, None)
    assert set(finished.comparison or {}) == {"draft", "target"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BackendError("no such model")])
def test_an_error_after_the_first_run_says_how_to_resume(runs: Runs, a_config: Configs, error: BaseException) -> None:
    def solve(config: Config, out: Path) -> Summary:
        if config.run_type == "target":
            raise error
        return runs.solve(config, out)

    with pytest.raises(type(error)):
        compare(a_config(compare=True), PROBLEMS, runs.path, solve, runs.said.append)
    assert runs.said == [f"to resume: arbiter bench --resume {runs.path}"]
    check_resumable(runs.path)


def test_where_no_run_has_begun_nothing_is_left(tmp_path: Path, a_config: Configs) -> None:
    def fails(config: Config, out: Path) -> Summary:
        raise BackendError("no such model")

    said: list[str] = []
    with pytest.raises(BackendError):
        compare(a_config(compare=True), PROBLEMS, tmp_path / "run", fails, said.append)
    assert (list(tmp_path.iterdir()), said) == ([], [])


def test_a_configuration_that_was_in_the_folder_stays_as_it_was(tmp_path: Path, a_config: Configs) -> None:
    def fails(config: Config, out: Path) -> Summary:
        raise BackendError("no such model")

    path = tmp_path / "run" / "config.toml"
    path.parent.mkdir()
    config = a_config(compare=True)
    written = b"# mine\n" + as_toml(config)
    path.write_bytes(written)
    with pytest.raises(BackendError):
        compare(config, PROBLEMS, path.parent, fails, lambda _: None)
    assert path.read_bytes() == written


def test_failed_problems_of_a_finished_baseline_are_solved_again_on_request(runs: Runs, a_config: Configs) -> None:
    def down(request: GenerationRequest) -> Generation:
        raise BackendError("the server is down")

    config = a_config(compare=True)
    runs.target = down
    assert (runs.compare(config).summary.comparison or {})["target"].failed == 4
    runs.target, runs.made = right, []
    assert (runs.compare(config).summary.comparison or {})["target"].failed == 4
    assert runs.made == []
    again = runs.compare(config, retry_failed=True).summary
    assert (runs.made, again.failed, (again.comparison or {})["target"].failed) == (["target", "router"], 0, 0)


def test_a_report_has_the_stored_figures_and_finds_nothing_that_differs(runs: Runs, a_config: Configs) -> None:
    summary = runs.compare(a_config(compare=True)).summary
    report = report_on([runs.path, *(Path(run.run) for run in (summary.comparison or {}).values())])
    assert report.warnings == []
    assert [run.summary for run in report.runs if run.name == str(runs.path)] == [summary]


def test_grading_a_run_again_keeps_its_comparison_and_its_cpu_seconds(runs: Runs, a_config: Configs) -> None:
    summary = runs.compare(a_config(compare=True)).summary
    assert anyio.run(regrade, runs.path).summary == summary


def test_the_summary_of_an_older_baseline_is_used_without_what_it_lacks(runs: Runs, a_config: Configs) -> None:
    runs.compare(a_config(compare=True))
    file = runs.path.with_name("run-draft") / "summary.json"
    older = {
        key: value
        for key, value in json.loads(file.read_bytes()).items()
        if key not in {"cpu_seconds", "comparison", "c"}
    }
    file.write_text(json.dumps(older), encoding="utf-8")
    runs.made.clear()
    found = runs.compare(a_config(compare=True)).summary.comparison or {}
    assert (runs.made, found["draft"].cpu_seconds, found["draft"].problems) == ([], None, 4)


def test_a_folder_without_the_configuration_of_a_run_cannot_be_resumed(a_config: Configs, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run: .*, or begin one there with --out"):
        check_resumable(tmp_path)
    (tmp_path / "config.toml").write_bytes(as_toml(a_config()))  # a run that was killed before its first event
    check_resumable(tmp_path)
    (tmp_path / "sweep.json").touch()
    with pytest.raises(RunError, match="holds no run"):
        check_resumable(tmp_path)


def test_a_configuration_of_the_user_is_no_run_to_resume_and_is_never_replaced(runs: Runs, a_config: Configs) -> None:
    config, file = a_config(), runs.path / "config.toml"
    runs.path.mkdir()
    written = b"# mine\n" + as_toml(config)
    file.write_bytes(written)
    with pytest.raises(RunError, match=f"holds no run, but a configuration .*, give {file} and --out {runs.path}"):
        check_resumable(runs.path)
    with pytest.raises(RunError, match=rf"^{file} is another configuration .*: choose another folder with --out"):
        check_run(a_config(seed=7), PROBLEMS, runs.path)
    with pytest.raises(RunError, match=rf"^{file} is another configuration .*: choose another folder with --out"):
        runs.solve(a_config(seed=7), runs.path)
    runs.solve(config, runs.path)
    assert file.read_bytes() == written
    check_resumable(runs.path)
