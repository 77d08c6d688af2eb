"""Which run a name on the command line means, and how runs are listed."""

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.log.lock import locked
from arbiter.protocols.errors import RunError
from arbiter.runs.baselines import baseline_path
from arbiter.runs.finding import GRADED, LOGGED, RUNS, find_runs, resolve
from arbiter.runs.folder import about_run, check_run, open_run, run_path
from arbiter.runs.listing import ListedRun, list_runs
from arbiter.runs.remedies import SWEEP_REMEDY
from arbiter.runs.results import Result, summary_of
from arbiter.sweep.sweep_results import SweepResult
from arbiter.sweep.sweep_results import write as write_sweep

Configs = Callable[..., Config]
Results = Callable[..., Result]
Runs = Callable[..., Path]


@pytest.fixture
def a_run(a_config: Configs, a_result: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Write a run into a folder below ``runs``, in an empty working folder. Its session ends unless ``killed``."""
    monkeypatch.chdir(tmp_path)

    def build(name: str, killed: bool = False, interrupted: bool = False, **keys: object) -> Path:
        config, results = a_config(**keys), [a_result(problem="p"), a_result(False, problem="q")]
        problems = [Problem(one.solution.problem, one.solution.question, one.reference) for one in results]

        async def write() -> None:
            async with open_run(config, problems, RUNS / name) as folder:
                for result in results:
                    await folder.add(result)
                if not killed:
                    await folder.finish(summary_of(config, results, 12.5, interrupted))

        anyio.run(write)
        return RUNS / name

    return build


def a_sweep(name: str, a_run: Runs) -> Path:
    folder = a_run(f"{name}/draft", run_type="draft").parent
    write_sweep(SweepResult(measured=False, interrupted=False, points=()), folder)
    return folder


def the(folder: Path) -> ListedRun:
    return next(run for run in list_runs([RUNS]) if run.run == str(folder))


def test_last_is_the_newest_run_and_not_a_sweep_or_a_baseline(a_run: Runs) -> None:
    run = a_run("second")
    a_sweep("third", a_run)
    a_run("second-draft", run_type="draft")
    assert resolve(Path("@last"), LOGGED) == run


def test_last_is_the_newest_of_the_kind_that_the_command_needs(a_run: Runs) -> None:
    sweep = a_sweep("curve", a_run)
    a_run("first")
    assert resolve(Path("@last"), ("sweep",)) == sweep
    with pytest.raises(RunError, match="there is no collection below runs/"):
        resolve(Path("@last"), ("collection",))


def test_last_passes_over_a_folder_whose_log_does_not_begin_with_a_warning(
    a_run: Runs, a_config: Configs, caplog: pytest.LogCaptureFixture
) -> None:
    run, damaged, begun = a_run("whole"), a_run("damaged"), RUNS / "begun"
    (damaged / "events.jsonl").write_text("{", encoding="utf-8")
    begun.mkdir()
    about_run(begun, a_config())
    assert [found.path for found in find_runs(RUNS)] == [begun, damaged, run]
    assert resolve(Path("@last"), LOGGED) == run
    assert caplog.messages == [
        f"@last: {path} is passed over, because its log is missing or its beginning is damaged"
        for path in (begun, damaged)
    ]


def test_no_folder_of_a_run_has_the_name_of_the_newest_one(a_run: Runs, a_config: Configs) -> None:
    with pytest.raises(RunError, match=r"@last means the newest run, .* continue the newest run with --resume @last"):
        run_path(Path("@last"), "sweep")
    with pytest.raises(RunError, match="@last means the newest run"):
        check_run(a_config(), [], Path("@last"))
    assert run_path(Path("other"), "sweep") == Path("other")


def test_a_damaged_sweep_is_listed_with_the_way_to_mend_it(a_run: Runs) -> None:
    sweep = a_sweep("curve", a_run)
    (sweep / "sweep.json").write_text("{}", encoding="utf-8")
    listed = the(sweep)
    assert (listed.state, listed.points) == ("damaged", None)
    assert str(listed.error).endswith(f"`points`; {SWEEP_REMEDY}")


@pytest.mark.parametrize("name", ["202", "runs/202", "2026-b"])
def test_the_beginning_of_a_name_that_fits_one_run_means_that_run(name: str, a_run: Runs) -> None:
    run = a_run("2026-b")
    a_run("1999")
    assert resolve(Path(name), LOGGED) == run


def test_a_beginning_that_fits_several_runs_is_refused_with_the_candidates(a_run: Runs) -> None:
    a_run("2026-a")
    a_run("2026-b")
    with pytest.raises(RunError, match="'2026' is the beginning of several names: runs/2026-b, runs/2026-a; give more"):
        resolve(Path("2026"), LOGGED)


def test_a_whole_name_is_not_ambiguous_although_others_begin_with_it(a_run: Runs) -> None:
    run = a_run("first")
    a_run("first-again")
    assert resolve(Path("first"), LOGGED) == run


def test_a_run_and_its_baselines_count_as_the_run(a_run: Runs) -> None:
    run = a_run("2026-router")
    a_run(baseline_path(run, "draft").name, run_type="draft")
    assert resolve(Path("2026"), GRADED) == run
    assert resolve(Path("2026-router-d"), GRADED) == baseline_path(run, "draft")


@pytest.mark.parametrize("name", ["nothing", "nowhere/202", "/nowhere/run"])
def test_a_name_that_fits_no_run_stays_as_it_is(name: str, a_run: Runs) -> None:
    a_run("2026")
    assert resolve(Path(name), LOGGED) == Path(name)


def test_a_path_that_exists_wins_over_the_beginning_of_a_name(a_run: Runs) -> None:
    a_run("configs-tried")
    Path("configs").mkdir()
    assert resolve(Path("configs"), LOGGED) == Path("configs")


def test_runs_are_found_below_a_folder_newest_first_and_each_as_what_it_is(a_run: Runs) -> None:
    first = a_run("group/first")
    baseline = a_run("group/first-target", run_type="target")
    sweep = a_sweep("curve", a_run)
    (RUNS / "checkpoint").mkdir()
    os.utime(sweep / "sweep.json", (9e9, 9e9))
    os.utime(sweep / "sweep.csv", (9e9, 9e9))
    found = [(run.path, run.kind) for run in find_runs(RUNS)]
    assert found == [(sweep, "sweep"), (baseline, "baseline"), (first, "run")]
    assert [run.path for run in find_runs(sweep)] == [sweep / "draft"]


def test_a_run_of_other_problems_is_no_baseline_whatever_its_name(a_run: Runs, a_config: Configs) -> None:
    a_run("first")

    async def other() -> None:
        async with open_run(a_config(run_type="draft"), [Problem("other", "?")], RUNS / "first-draft"):
            pass

    anyio.run(other)
    assert {run.path.name: run.kind for run in find_runs(RUNS)} == {"first": "run", "first-draft": "run"}


def test_a_finished_run_is_listed_with_its_figures(a_run: Runs) -> None:
    listed = the(a_run("first", thresholds={"router": 0.3}))
    assert (listed.kind, listed.state, listed.run_types, listed.threshold) == ("run", "finished", ("router",), 0.3)
    assert (listed.problems, listed.accuracy, listed.acceptance_rate) == (2, 0.5, 1.0)
    assert (listed.models, listed.data) == ({"draft": "nowhere", "target": "nowhere"}, "pocket:1")


def test_the_state_says_how_a_run_ended(a_run: Runs) -> None:
    assert the(a_run("interrupted", interrupted=True)).state == "interrupted"
    killed = the(a_run("killed", killed=True))
    assert (killed.state, killed.accuracy) == ("unfinished", 0.5)


def test_a_run_that_a_process_writes_is_running(a_run: Runs) -> None:
    run = a_run("now")
    with locked(run / ".events.jsonl.lock", "run"):
        assert the(run).state == "running"
    assert the(run).state == "finished"


def test_a_run_whose_files_cannot_be_read_is_damaged_and_the_others_are_listed(a_run: Runs) -> None:
    whole, damaged = a_run("whole"), a_run("damaged")
    (damaged / "summary.json").write_text("{", encoding="utf-8")
    assert the(whole).state == "finished"
    listed = the(damaged)
    assert listed.state == "damaged"
    assert str(damaged / "summary.json") in str(listed.error)


def test_a_run_that_was_about_to_begin_is_listed_without_figures(a_run: Runs, a_config: Configs) -> None:
    a_run("first")
    (RUNS / "begun").mkdir()
    about_run(RUNS / "begun", a_config())
    listed = the(RUNS / "begun")
    assert (listed.state, listed.run_types, listed.accuracy) == ("unfinished", ("router",), None)


def test_a_folder_that_does_not_exist_is_named(a_run: Runs) -> None:
    a_run("first")
    with pytest.raises(RunError, match="there is no folder 'nowhere'"):
        list_runs([Path("nowhere")])
