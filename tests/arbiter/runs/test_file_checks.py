"""The files of a run are checked: what is damaged is named, and what has no checksum is counted."""

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.data.training_rows import TrainingRow
from arbiter.grading import Grade
from arbiter.log.checksums import of_line
from arbiter.protocols.errors import RunError
from arbiter.protocols.records import Candidate, Solution, StepRecord
from arbiter.runs.collection import NAME, planned, read_collection, write_collection
from arbiter.runs.file_checks import CheckedFile, check_files
from arbiter.runs.folder import open_run, read_records, read_results
from arbiter.runs.reports.report import read_run
from arbiter.runs.results import Result, summary_of
from arbiter.runs.stored_summary import write_summary
from tests.command_line import call_arbiter

Configs = Callable[..., Config]


@pytest.fixture
def run(
    a_config: Configs, a_candidate: Callable[..., Candidate], a_solution: Callable[..., Solution], tmp_path: Path
) -> Path:
    """The folder of a finished run of two problems with two steps each, which wrote rows."""
    config, folder = a_config(run_type="generate"), tmp_path / "run"
    step = StepRecord((a_candidate("draft", 0.25), a_candidate("target", 0.75)), chosen=1)
    problems = [Problem(name, f"question {name}", "7") for name in ("p", "q")]
    results = [Result(a_solution(problem.id, step, step), Grade(True, "7"), "7") for problem in problems]

    async def write() -> None:
        async with open_run(config, problems, folder) as opened:
            for result in results:
                await opened.add(result)
            await opened.finish(summary_of(config, results, wall_seconds=12.5))

    anyio.run(write)
    return folder


def checked(run: Path) -> dict[str, CheckedFile]:
    return {file.name: file for file in check_files(run)}


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_summary_with_keys_of_another_version_is_whole(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    del summary["c"]
    (run / "summary.json").write_text(json.dumps(summary | {"calls": {"draft": 3}}), encoding="utf-8")
    assert checked(run)["summary.json"] == CheckedFile("summary.json", lines=1, unchecked=1)


def test_a_summary_with_none_of_the_keys_is_whole_and_counts_nothing(run: Path) -> None:
    (run / "summary.json").write_text("{}", encoding="utf-8")
    found = checked(run)
    assert found["summary.json"] == CheckedFile("summary.json", lines=1, unchecked=1)
    assert found["results.jsonl"].error is None


def test_results_are_too_many_for_a_summary_that_counts_none(run: Path, a_config: Configs) -> None:
    write_summary(run, summary_of(a_config(run_type="generate"), [], wall_seconds=1.0))
    with pytest.raises(RunError, match=r"has 2 results, but summary\.json counts 0"):
        read_run(run)
    assert "has 2 results, but summary.json counts 0" in (checked(run)["results.jsonl"].error or "")


def test_the_command_that_writes_a_damaged_summary_again_is_that_of_its_folder(run: Path, a_config: Configs) -> None:
    def remedy() -> str:
        return (checked(run)["summary.json"].error or "").partition("; ")[2]

    change(run / "summary.json", '"wall_seconds": 12.5', '"wall_seconds": 22.5')
    assert remedy().endswith(f": arbiter bench --resume {run}")
    write_collection(run, planned(a_config(), None, 0.25, 0.0))
    assert remedy().endswith(f": arbiter collect --resume {run}")
    (run.parent / "sweep.json").touch()
    assert remedy().endswith(f": arbiter sweep --resume {run.parent}")


def test_the_files_of_a_collection_are_checked_with_those_of_its_run(run: Path, a_config: Configs) -> None:
    write_collection(run, planned(a_config(), None, 0.25, 0.0))
    assert checked(run)["collection.json"] == CheckedFile("collection.json", lines=1)
    change(run / NAME, '"validation": 0.25', '"validation": 0.35')
    [(name, error)] = [(file.name, file.error) for file in check_files(run) if file.error is not None]
    assert name == "collection.json"
    assert "its checksum is " in error


def test_an_imported_collection_is_checked_without_a_run(run: Path, a_config: Configs) -> None:
    write_collection(run, planned(a_config(), None, 0.25, 0.0))
    (run / "events.jsonl").unlink()
    with pytest.raises(RunError, match="holds no run"):  # it has the results of a run, so that its log is missing
        list(check_files(run))
    for name in ("results.jsonl", "summary.json", "config.toml"):
        (run / name).unlink()
    assert list(checked(run)) == ["rows.jsonl", "collection.json"]
    change(run / "rows.jsonl", '"step":1', '"step":0')
    ended = call_arbiter("show", run, "--verify")
    assert (ended.returncode, ended.stdout) == (2, "collection.json: no damage\n")
    assert "rows.jsonl, line 2: its checksum is " in " ".join(ended.stderr.split())


def test_the_files_of_a_run_are_whole(run: Path) -> None:
    found = checked(run)
    assert list(found) == ["events.jsonl", "results.jsonl", "rows.jsonl", "summary.json", "config.toml"]
    assert [file for file in found.values() if file.error or file.unchecked or file.torn or not file.ended] == []
    assert (found["results.jsonl"].lines, found["rows.jsonl"].lines) == (2, 4)
    assert list(checked(run / "events.jsonl")) == ["events.jsonl"]


@pytest.mark.parametrize(
    ("name", "old", "new", "named"),
    [
        ("results.jsonl", '"right":true', '"right":null', "results.jsonl, line 1: its checksum is "),
        ("rows.jsonl", '"step":1', '"step":0', "rows.jsonl, line 2: its checksum is "),
        ("summary.json", '"wall_seconds": 12.5', '"wall_seconds": 22.5', "summary.json: its checksum is "),
        ("summary.json", '"problems": 2,', '"problems": 2', "summary.json: "),
        ("config.toml", "max_steps = 100", "max_steps = 200", "limits.max_steps: 100 in the log, 200 in config.toml"),
        ("events.jsonl", '"answer":"7"', '"answer":"8"', "events.jsonl, line 2: the log is damaged here: "),
    ],
)
def test_damage_is_named_and_the_other_files_are_checked_all_the_same(
    run: Path, name: str, old: str, new: str, named: str
) -> None:
    change(run / name, old, new)
    errors = {file.name: file.error for file in check_files(run) if file.error is not None}
    assert list(errors) == [name]
    assert named in (errors[name] or "")
    ended = call_arbiter("show", run, "--verify")
    assert (ended.returncode, ended.stdout.count("no damage")) == (2, 4)
    assert named in " ".join(ended.stderr.split())


def test_every_file_is_one_line_and_as_json_one_object(run: Path) -> None:
    assert call_arbiter("show", run, "--verify").stdout.splitlines()[1] == "results.jsonl: no damage"
    [_, second, *_] = call_arbiter("show", run, "--verify", "--json").stdout.splitlines()
    named = {"name": "results.jsonl", "lines": 2, "unchecked": 0, "torn": False, "ended": True, "error": None}
    assert json.loads(second) == named


@pytest.mark.parametrize("option", ["p", "--wrong", "--follow", "--slowest=1", "--sample=0"])
def test_a_whole_run_is_checked_and_nothing_less(run: Path, option: str) -> None:
    assert "--verify checks the whole run" in call_arbiter("show", run, option, "--verify").stderr


def test_lines_without_checksums_are_counted(run: Path) -> None:
    path = run / "results.jsonl"
    path.write_bytes(b"".join(of_line(line) + b"\n" for line in path.read_bytes().splitlines(keepends=True)))
    assert checked(run)["results.jsonl"] == CheckedFile("results.jsonl", 2, 2)
    assert "no damage found, but 2 of 2 lines have no checksum" in call_arbiter("show", run, "--verify").stdout


def test_a_result_less_than_the_summary_counts_is_named(run: Path) -> None:
    path = run / "results.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(RunError, match=rf"^{path} has 1 results, but summary\.json counts 2: restore"):
        read_run(run)
    assert f"{path} has 1 results" in (checked(run)["results.jsonl"].error or "")


def test_the_remedy_for_a_damaged_file_names_the_command_that_writes_it_again(run: Path) -> None:
    def remedy() -> str:
        with pytest.raises(RunError) as caught:
            list(read_records(run / "rows.jsonl", TrainingRow))
        return str(caught.value).partition("; ")[2]

    change(run / "rows.jsonl", '"v', '"w')
    copy_or_log = "restore it from a copy, or write it again from the log:"
    assert remedy() == f"{copy_or_log} arbiter bench --resume {run}"
    (run / "collection.json").touch()
    assert remedy() == f"{copy_or_log} arbiter collect --resume {run}"
    (run.parent / "sweep.json").touch()
    assert remedy() == f"{copy_or_log} arbiter sweep --resume {run.parent}"
    (run / "events.jsonl").unlink()
    assert "import the rows again into another folder: arbiter collect --import" in remedy()
    (run / "collection.json").unlink()
    assert remedy().startswith("restore it from a copy: the folder has no events.jsonl")


@pytest.mark.parametrize("remedy", ["repeat the command of the collection", "import the rows again"])
def test_a_changed_character_of_a_collection_is_named(run: Path, a_config: Configs, remedy: str) -> None:
    plan = planned(a_config(), None, 0.25, 0.0)
    write_collection(run, plan)
    assert read_collection(run) == plan
    if remedy.startswith("import"):
        (run / "events.jsonl").unlink()
    change(run / NAME, '"validation": 0.25', '"validation": 0.35')
    with pytest.raises(RunError, match=rf"{run / NAME}: its checksum is .*{remedy}"):
        read_collection(run)
    (run / NAME).write_bytes(msgspec.json.encode(plan))  # as older versions wrote it
    assert read_collection(run) == plan


def test_a_result_that_lost_its_line_feed_to_another_byte_is_not_half_a_line(run: Path) -> None:
    path = run / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(
        RunError,
        match=rf"{path}, line 2: its checksum is .*: arbiter bench --resume {run}$",
    ):
        read_results(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert read_results(path)[1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_one_changed_byte_of_the_results_is_named_by_its_line(run: Path, data: st.DataObject) -> None:
    path, copy = run / "results.jsonl", run / "copy.jsonl"
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    line = content.count(b"\n", 0, at) + 1
    content[at] ^= data.draw(st.integers(1, 255))
    copy.write_bytes(content)
    with pytest.raises(RunError, match=rf"copy\.jsonl, line {line}: "):
        read_results(copy)
    with pytest.raises(RunError, match=rf"copy\.jsonl, line {line}: "):
        list(read_records(copy, Result))
