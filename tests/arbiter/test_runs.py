"""The folder that a run leaves behind, and what is read back from it."""

import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from arbiter.config import Config, load_config, parse
from arbiter.results import Result, Summary, summarise
from arbiter.runs import Row, RunFolder, read_records, training_rows, versions
from protocols.errors import RunError
from protocols.records import Candidate, Solution, Step, StepRecord

Configs = Callable[..., Config]
Candidates = Callable[..., Candidate]
Solutions = Callable[..., Solution]
Results = Callable[..., Result]


@pytest.fixture
def two_steps(a_candidate: Candidates, a_solution: Solutions) -> Solution:
    """A generate run's solution: the draft's step kept, then the target's; two samples a step."""
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


def test_a_run_leaves_its_configuration_versions_results_and_summary(
    a_config: Configs, a_result: Results, tmp_path: Path
) -> None:
    with RunFolder(a_config(), tmp_path / "run") as folder:
        folder.add(a_result())
        folder.finish(summarise([a_result()], "router", 0.5, 1.0))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.toml", "versions.json", "results.jsonl", "summary.json"}


def test_the_configuration_of_a_run_does_the_same_again(a_config: Configs, tmp_path: Path) -> None:
    config = a_config(run_type="rsd", thresholds={"rsd": 0.9}, limits={"deadline": 3.5}, separator="\n---\n")
    with RunFolder(config, tmp_path):
        assert load_config(str(tmp_path / "config.toml")) == config


def test_a_key_that_is_not_set_is_left_out_of_the_configuration(tmp_path: Path) -> None:
    with RunFolder(parse({"models": {}}, "test"), tmp_path):
        written = tomllib.loads((tmp_path / "config.toml").read_text(encoding="utf-8"))
    assert (written["models"], written["data"]) == ({}, {"source": "pocket:1", "fields": {}})


def test_the_versions_of_a_run_are_those_of_this_installation(a_config: Configs, tmp_path: Path) -> None:
    with RunFolder(a_config(), tmp_path):
        assert msgspec.json.decode((tmp_path / "versions.json").read_bytes()) == versions()
    assert {"python", "arbiter-reasoning", "msgspec"} <= versions().keys()


def test_the_summary_is_read_back_as_it_was_written(a_config: Configs, a_result: Results, tmp_path: Path) -> None:
    summary = summarise([a_result(), a_result(right=False)], "router", 0.5, 1.0)
    with RunFolder(a_config(), tmp_path) as folder:
        folder.finish(summary)
    assert msgspec.json.decode((tmp_path / "summary.json").read_bytes(), type=Summary) == summary


def test_results_are_read_back_in_the_order_in_which_they_were_added(
    a_config: Configs, a_result: Results, tmp_path: Path
) -> None:
    results = [a_result(problem=name) for name in ("b", "a", "c")]
    with RunFolder(a_config(), tmp_path) as folder:
        for result in results:
            folder.add(result)
    assert list(read_records(tmp_path / "results.jsonl", Result)) == results


def test_a_result_can_be_read_as_soon_as_it_is_added(a_config: Configs, a_result: Results, tmp_path: Path) -> None:
    with RunFolder(a_config(), tmp_path) as folder:
        folder.add(a_result(problem="first"))
        [found] = read_records(tmp_path / "results.jsonl", Result)
        assert found.solution.problem == "first"


def test_results_stay_when_a_run_is_cut_in_the_middle(a_config: Configs, a_result: Results, tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), RunFolder(a_config(), tmp_path) as folder:
        folder.add(a_result(problem="first"))
        raise KeyboardInterrupt
    assert [result.solution.problem for result in read_records(tmp_path / "results.jsonl", Result)] == ["first"]


def test_a_second_run_in_the_same_folder_is_refused_with_the_way_out(
    a_config: Configs, a_result: Results, tmp_path: Path
) -> None:
    with RunFolder(a_config(), tmp_path) as folder:
        folder.add(a_result())
    before = (tmp_path / "results.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"holds a run already: .* --out"), RunFolder(a_config(seed=7), tmp_path):
        pass
    assert (tmp_path / "results.jsonl").read_bytes() == before
    assert load_config(str(tmp_path / "config.toml")) == a_config()


@pytest.mark.parametrize("below", ["file", "file/run", "file/a/b"])
def test_a_folder_that_cannot_be_made_is_named(a_config: Configs, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError) as caught, RunFolder(a_config(), tmp_path / below):
        pass
    assert str(tmp_path / below) in str(caught.value)


def test_a_folder_whose_name_is_too_long_is_named(a_config: Configs, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="xxx"), RunFolder(a_config(), tmp_path / ("x" * 300)):
        pass


def test_a_summary_that_cannot_be_written_names_the_folder(a_config: Configs, tmp_path: Path) -> None:
    (tmp_path / "summary.json").mkdir()
    with RunFolder(a_config(), tmp_path) as folder, pytest.raises(RunError) as caught:
        folder.finish(summarise([], "router", 0.5, 1.0))
    assert str(tmp_path) in str(caught.value)


def test_a_result_is_refused_by_a_folder_that_was_never_opened(
    a_config: Configs, a_result: Results, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="is not open"):
        RunFolder(a_config(), tmp_path).add(a_result())


def test_without_a_given_folder_a_run_gets_a_new_one_of_its_type(a_config: Configs) -> None:
    path = RunFolder(a_config(run_type="oracle"), None).path
    assert path.parent == Path("runs")
    assert path.name.endswith("-oracle")


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


def test_a_generate_run_writes_its_rows(
    a_config: Configs, a_result: Results, two_steps: Solution, tmp_path: Path
) -> None:
    with RunFolder(a_config(run_type="generate"), tmp_path) as folder:
        folder.add(a_result(solution=two_steps))
    assert list(read_records(tmp_path / "rows.jsonl", Row)) == list(training_rows(two_steps))


def test_other_runs_write_no_rows(a_config: Configs, a_result: Results, two_steps: Solution, tmp_path: Path) -> None:
    with RunFolder(a_config(run_type="oracle"), tmp_path) as folder:
        folder.add(a_result(solution=two_steps))
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"unknown": 1}', b"\xff", b'{"reference": "\xff"}'])
def test_a_damaged_line_is_named(a_config: Configs, a_result: Results, tmp_path: Path, damage: bytes) -> None:
    with RunFolder(a_config(), tmp_path) as folder:
        folder.add(a_result())
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes() + damage + b"\n")
    records = read_records(path, Result)
    assert next(records) == a_result()
    with pytest.raises(RunError) as caught:
        next(records)
    assert str(caught.value).startswith(f"{path}, line 2: ")


def test_a_missing_file_of_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot read .*results\.jsonl: No such file"):
        list(read_records(tmp_path / "results.jsonl", Result))
