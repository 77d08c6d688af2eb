"""Run folders: what a run writes, and what is read back."""

import tomllib
from collections.abc import Callable
from contextlib import chdir, suppress
from pathlib import Path

import msgspec
import pytest

from arbiter.config.config import Config, load_config, parse
from arbiter.data import Problem
from arbiter.data.training_rows import TrainingRow, training_rows
from arbiter.log.checksums import of_document
from arbiter.log.run import Run
from arbiter.protocols.errors import RunError
from arbiter.protocols.records import Candidate, Solution, Step, StepRecord
from arbiter.runs.folder import check_run, open_run, read_records, versions
from arbiter.runs.results import Result, Summary, summarise

Configs = Callable[..., Config]
Candidates = Callable[..., Candidate]
Solutions = Callable[..., Solution]
Results = Callable[..., Result]


PROBLEMS = [Problem(name, f"question {name}", "1") for name in ("p", "a", "b", "c", "first")]


async def leave(config: Config, out: Path, *results: Result, summary: Summary | None = None) -> None:
    """Write a run folder with these results, and with the summary if there is one."""
    async with open_run(config, PROBLEMS, out) as folder:
        for result in results:
            await folder.add(result)
        if summary is not None:
            await folder.finish(summary)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def two_steps(a_candidate: Candidates, a_solution: Solutions) -> Solution:
    """Return a solution of a generate run: it keeps a draft, then a target step, with two samples per step."""
    first = StepRecord(
        candidates=(
            a_candidate("draft", 0.75, text="d0"),
            a_candidate("target", 0.25, text="t0"),
            a_candidate("target", 0.5, text="u0", sample=1),
        ),
        chosen=0,
        verdict="keep_draft",
    )
    second = StepRecord(
        candidates=(
            a_candidate("draft", 0.25, text="d1"),
            a_candidate("target", 0.5, text="t1"),
            a_candidate("target", 1.0, text="u1", sample=1),
        ),
        chosen=1,
        verdict="keep_target",
    )
    return a_solution("p", first, second)


@pytest.mark.asyncio
async def test_a_run_leaves_its_log_configuration_versions_results_and_summary(
    a_config: Configs, a_result: Results, tmp_path: Path
) -> None:
    await leave(a_config(), tmp_path / "run", a_result(), summary=summarise([a_result()], "router", 0.5, 1.0))
    names = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith(".")}
    assert names == {"events.jsonl", "config.toml", "versions.json", "results.jsonl", "summary.json"}


@pytest.mark.asyncio
async def test_the_configuration_of_a_run_does_the_same_again(a_config: Configs, tmp_path: Path) -> None:
    config = a_config(run_type="rsd", thresholds={"rsd": 0.9}, limits={"deadline": 3.5}, separator="\n---\n")
    await leave(config, tmp_path)
    assert load_config(str(tmp_path / "config.toml")) == config


@pytest.mark.asyncio
async def test_a_key_that_is_not_set_is_left_out_of_the_configuration(tmp_path: Path) -> None:
    await leave(parse({"models": {}}, "test"), tmp_path)
    written = tomllib.loads((tmp_path / "config.toml").read_text(encoding="utf-8"))
    data = written["data"]
    assert (written["models"], data["fields"]) == ({}, {})
    assert data.keys() == {"source", "fields", "judge", "sandbox", "allow_unsandboxed"}
    assert "prompt" not in data["judge"]
    assert "python" not in data["sandbox"]


@pytest.mark.asyncio
async def test_the_versions_of_a_run_are_those_of_this_installation(a_config: Configs, tmp_path: Path) -> None:
    await leave(a_config(), tmp_path)
    assert msgspec.json.decode((tmp_path / "versions.json").read_bytes()) == versions()
    assert Run.open(tmp_path).started.versions == versions()
    assert {"python", "arbiter-reasoning", "msgspec"} <= versions().keys()


@pytest.mark.asyncio
async def test_the_summary_is_read_back_as_it_was_written(a_config: Configs, a_result: Results, tmp_path: Path) -> None:
    summary = summarise([a_result(), a_result(right=False)], "router", 0.5, 1.0)
    await leave(a_config(), tmp_path, summary=summary)
    assert msgspec.json.decode(of_document((tmp_path / "summary.json").read_bytes()), type=Summary) == summary


@pytest.mark.asyncio
async def test_the_summary_of_an_earlier_session_is_removed_when_the_run_is_continued(
    a_config: Configs, tmp_path: Path
) -> None:
    await leave(a_config(), tmp_path, summary=summarise([], "router", 0.5, 1.0, interrupted=True))
    async with open_run(a_config(), PROBLEMS, tmp_path):
        assert not (tmp_path / "summary.json").exists()


@pytest.mark.asyncio
async def test_results_are_read_back_in_the_order_in_which_they_were_added(
    a_config: Configs, a_result: Results, tmp_path: Path
) -> None:
    results = [a_result(problem=name) for name in ("b", "a", "c")]
    await leave(a_config(), tmp_path, *results)
    assert list(read_records(tmp_path / "results.jsonl", Result)) == results


@pytest.mark.asyncio
async def test_a_result_can_be_read_as_soon_as_it_is_added(
    a_config: Configs, a_result: Results, tmp_path: Path
) -> None:
    async with open_run(a_config(), PROBLEMS, tmp_path) as folder:
        added = a_result(problem="first")
        await folder.add(added)
        assert list(read_records(tmp_path / "results.jsonl", Result)) == [added]


@pytest.mark.asyncio
async def test_results_stay_when_a_run_is_cut_in_the_middle(
    a_config: Configs, a_result: Results, tmp_path: Path
) -> None:
    with suppress(KeyboardInterrupt):
        async with open_run(a_config(), PROBLEMS, tmp_path) as folder:
            await folder.add(a_result(problem="first"))
            raise KeyboardInterrupt
    assert [result.solution.problem for result in read_records(tmp_path / "results.jsonl", Result)] == ["first"]
    assert [event.problem for event in Run.open(tmp_path).events() if event.kind == "graded"] == ["first"]


@pytest.mark.asyncio
async def test_another_run_in_the_same_folder_is_refused_with_the_keys_that_differ_and_the_way_out(
    a_config: Configs, a_result: Results, tmp_path: Path
) -> None:
    await leave(a_config(), tmp_path, a_result())
    before = contents(tmp_path)
    with pytest.raises(RunError, match=r"holds another run(.|\n)*\n  seed: 0 in the run, 7 now\n(.|\n)*--out"):
        await leave(a_config(seed=7), tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.asyncio
async def test_another_run_is_refused_before_anything_is_loaded(a_config: Configs, tmp_path: Path) -> None:
    await leave(a_config(), tmp_path)
    with pytest.raises(RunError, match="seed: 0 in the run, 7 now"):
        check_run(a_config(seed=7), PROBLEMS, tmp_path)
    check_run(a_config(), PROBLEMS, tmp_path)


@pytest.mark.asyncio
async def test_the_same_run_in_the_same_folder_is_continued(a_config: Configs, tmp_path: Path) -> None:
    await leave(a_config(), tmp_path)
    await leave(a_config(), tmp_path)
    assert [event.id for event in Run.open(tmp_path).events()] == ["run_started/0", "run_started/1"]


@pytest.mark.asyncio
async def test_a_run_without_its_log_is_refused_with_the_way_out(a_config: Configs, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_bytes(b"")
    with pytest.raises(RunError, match=r"a run without its event log \(events\.jsonl\): .* --out"):
        check_run(a_config(), PROBLEMS, tmp_path)
    with pytest.raises(RunError, match="without its event log"):
        await leave(a_config(), tmp_path)
    assert contents(tmp_path).keys() == {"results.jsonl"}


@pytest.mark.asyncio
@pytest.mark.parametrize("below", ["file", "file/run", "file/a/b"])
async def test_a_folder_that_cannot_be_made_is_named(a_config: Configs, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError) as caught:
        await leave(a_config(), tmp_path / below)
    assert str(tmp_path / below) in str(caught.value)


@pytest.mark.asyncio
async def test_a_folder_whose_name_is_too_long_is_named(a_config: Configs, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="xxx"):
        await leave(a_config(), tmp_path / ("x" * 300))


@pytest.mark.asyncio
async def test_a_summary_that_cannot_be_written_names_the_folder(a_config: Configs, tmp_path: Path) -> None:
    async with open_run(a_config(), PROBLEMS, tmp_path) as folder:
        (tmp_path / "summary.json").mkdir()
        with pytest.raises(RunError) as caught:
            await folder.finish(summarise([], "router", 0.5, 1.0))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.asyncio
async def test_without_a_given_folder_a_run_gets_a_new_one_of_its_type(a_config: Configs, tmp_path: Path) -> None:
    with chdir(tmp_path):
        for _ in range(2):
            async with open_run(a_config(run_type="oracle"), PROBLEMS, None) as folder:
                assert folder.path.parent == Path("runs")
    first, second = sorted((tmp_path / "runs").iterdir())
    assert "-oracle" in first.name
    assert "-oracle" in second.name


def test_a_training_row_has_the_history_with_its_authors(two_steps: Solution) -> None:
    rows = list(training_rows(two_steps))
    assert [row.history for row in rows] == [(), (Step("d0", "draft"),)]
    assert [(row.step, row.draft, row.targets) for row in rows] == [(0, "d0", ("t0", "u0")), (1, "d1", ("t1", "u1"))]


def test_the_target_in_a_history_is_named_as_its_author(
    a_candidate: Candidates, a_solution: Solutions, two_steps: Solution
) -> None:
    last = StepRecord((a_candidate("draft", 0.5), a_candidate("target", 0.5)), 0, "keep_draft")
    *_, row = training_rows(a_solution("p", *two_steps.steps, last))
    assert row.history == (Step("d0", "draft"), Step("t1", "target"))


def test_the_advantage_is_the_mean_of_the_targets_minus_the_draft(two_steps: Solution) -> None:
    assert [row.advantage for row in training_rows(two_steps)] == [0.375 - 0.75, 0.75 - 0.25]


def test_a_step_without_all_of_its_scores_gives_no_row(a_candidate: Candidates, a_solution: Solutions) -> None:
    steps = (
        StepRecord((a_candidate("draft", 0.5),), 0),
        StepRecord((a_candidate("draft"), a_candidate("target", 0.5)), 0),
        StepRecord((a_candidate("draft", 0.5), a_candidate("target")), 0),
        StepRecord((a_candidate("target", 0.5),), 0),
    )
    assert list(training_rows(a_solution("p", *steps))) == []


def test_a_step_with_a_sample_that_was_not_scored_gives_no_row(a_candidate: Candidates, a_solution: Solutions) -> None:
    samples = a_candidate("target", 0.5), a_candidate("target", sample=1)
    step = StepRecord((a_candidate("draft", 0.5), *samples), 0)
    assert list(training_rows(a_solution("p", step))) == []


@pytest.mark.asyncio
async def test_a_generate_run_writes_its_rows(
    a_config: Configs, a_result: Results, two_steps: Solution, tmp_path: Path
) -> None:
    await leave(a_config(run_type="generate"), tmp_path, a_result(solution=two_steps))
    assert list(read_records(tmp_path / "rows.jsonl", TrainingRow)) == list(training_rows(two_steps))


@pytest.mark.asyncio
async def test_other_runs_write_no_rows(
    a_config: Configs, a_result: Results, two_steps: Solution, tmp_path: Path
) -> None:
    await leave(a_config(run_type="oracle"), tmp_path, a_result(solution=two_steps))
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"unknown": 1}', b"\xff", b'{"reference": "\xff"}'])
def test_a_damaged_line_is_named(a_result: Results, tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(msgspec.json.encode(a_result()) + b"\n" + damage + b"\n")
    records = read_records(path, Result)
    assert next(records) == a_result()
    with pytest.raises(RunError) as caught:
        next(records)
    assert str(caught.value).startswith(f"{path}, line 2: ")


def test_a_missing_file_of_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot read .*results\.jsonl: No such file"):
        list(read_records(tmp_path / "results.jsonl", Result))
