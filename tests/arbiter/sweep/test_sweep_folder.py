"""The folder of a sweep: refused settings, marked times, and how other commands read it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.evaluation.sweep_tuning import read_sweep
from arbiter.log.checksums import of_document
from arbiter.protocols.errors import ArbiterError, ConfigError, RunError
from arbiter.runs.file_checks import check_files
from arbiter.runs.folder import open_run, read_records
from arbiter.runs.regrading import regrade
from arbiter.runs.reports.report import report_on
from arbiter.runs.results import Result, Summary
from arbiter.sweep.points import plan
from arbiter.sweep.sweep import SweepRequest, sweep
from arbiter.sweep.sweep_results import SweepResult, earlier

Configs = Callable[..., Config]
Worlds = Callable[..., Models]
Swept = Callable[..., SweepResult]
Questions = Callable[[int], list[Problem]]


@pytest.fixture
def a_sweep(a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions, tmp_path: Path) -> Path:
    """Three points over four problems."""
    points = plan(a_config(), ["draft", "router"], ["0.2,0.8"])
    swept(tmp_path, points, a_seen_world(2), questions(4))
    return tmp_path


def request(config: Config, **fields: Any) -> SweepRequest:
    return SweepRequest(config, plan(config, ["router"], ["0.2,0.8"]), **fields)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"log": {"record": "redacted"}}, "log.record"),
        ({"limits": {"deadline": 60.0}}, "limits.deadline"),
        ({"lookahead": 1}, "lookahead"),
        ({"block": 2}, "block"),
    ],
)
def test_what_shared_answers_cannot_have_is_refused_with_the_way_out(
    a_config: Configs, tmp_path: Path, quiet: Any, keys: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match="--measure") as error:
        sweep(request(a_config(**keys)), tmp_path / "sweep", quiet)
    assert named in str(error.value)
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_whose_models_cannot_be_opened_leaves_neither_a_configuration_nor_points(
    a_config: Configs, tmp_path: Path, quiet: Any
) -> None:
    (tmp_path / "empty").mkdir()
    config = a_config(models={"draft": {"model": str(tmp_path / "empty"), "prompt": "{question}"}})
    with pytest.raises(ArbiterError):
        sweep(SweepRequest(config, plan(config, ["draft"], [])), tmp_path / "sweep", quiet)
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == [".sweep.lock"]


def test_another_experiment_is_refused_with_the_key_before_anything_is_loaded(
    a_sweep: Path, a_config: Configs, quiet: Any
) -> None:
    with pytest.raises(RunError, match="seed: 0 in the run, 3 now"):
        sweep(request(a_config(seed=3)), a_sweep, quiet)
    assert quiet.notices == []


def test_measured_and_shared_points_are_not_mixed(a_sweep: Path, a_config: Configs, quiet: Any) -> None:
    with pytest.raises(RunError, match="shares its answers and was not measured"):
        sweep(request(a_config(), measure=True), a_sweep, quiet)


def test_the_folder_of_a_run_is_refused(a_sweep: Path, a_config: Configs, quiet: Any) -> None:
    with pytest.raises(RunError, match="holds a single run, not a sweep"):
        sweep(request(a_config()), a_sweep / "draft", quiet)


def test_a_changed_character_of_the_sweep_is_named_with_the_way_out(
    a_sweep: Path, a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions
) -> None:
    file, points = a_sweep / "sweep.json", plan(a_config(), ["draft", "router"], ["0.2,0.8"])
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"threshold": 0.2', '"threshold": 0.3', 1), encoding="utf-8")
    with pytest.raises(RunError, match=rf"^{file}: its checksum is .*, or remove it and repeat the command"):
        earlier(a_sweep)
    with pytest.raises(RunError, match=rf"^{file}: its checksum is .*, or remove it and repeat the command"):
        read_sweep(a_sweep, "router")
    file.unlink()
    requests: list[object] = []
    swept(a_sweep, points, a_seen_world(2, requested=requests.append), questions(4))
    assert (earlier(a_sweep) is not None, requests) == (True, [])


def test_a_sweep_with_both_models_alone_says_what_its_points_recover(
    tmp_path: Path, a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions
) -> None:
    points = plan(a_config(), ["draft", "router", "target"], ["0.2,0.8"])
    found = swept(tmp_path / "both", points, a_seen_world(2), questions(4))
    assert found.recovery is not None
    assert found.recovery.problems == 4
    assert json.loads((tmp_path / "both" / "sweep.json").read_text())["recovery"]["problems"] == 4
    assert swept(tmp_path / "one", points[:2], a_seen_world(2), questions(4)).recovery is None


def test_the_files_of_a_sweep_and_of_its_points_are_checked(a_sweep: Path) -> None:
    def errors() -> dict[str, str]:
        return {file.name: file.error for file in check_files(a_sweep) if file.error is not None}

    names = [file.name for file in check_files(a_sweep)]
    of_a_point = ["events.jsonl", "results.jsonl", "summary.json", "config.toml"]
    points = ["draft", "router-0.2", "router-0.8"]
    assert names == ["sweep.json", *(f"{point}/{name}" for point in points for name in of_a_point)]
    assert errors() == {}
    for name, old, new in (
        ("sweep.json", '"threshold": 0.2', '"threshold": 0.3'),
        ("router-0.2/results.jsonl", '"right":', '"Right":'),
    ):
        text = (a_sweep / name).read_text(encoding="utf-8")
        (a_sweep / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    (a_sweep / "draft" / "events.jsonl").unlink()
    found = errors()
    assert set(found) == {"sweep.json", "router-0.2/results.jsonl", "draft/events.jsonl"}
    assert "its checksum is " in found["sweep.json"]
    assert "repeat the command of the sweep" in found["sweep.json"]
    assert f"arbiter sweep --resume {a_sweep}" in found["router-0.2/results.jsonl"]


def test_a_sweep_without_a_checksum_is_read_as_it_is(a_sweep: Path) -> None:
    file, before = a_sweep / "sweep.json", earlier(a_sweep)
    file.write_bytes(of_document(file.read_bytes()))
    assert earlier(a_sweep) == before


def test_a_point_is_not_continued_as_a_run_of_its_own(a_sweep: Path, a_config: Configs, questions: Questions) -> None:
    async def resume() -> None:
        async with open_run(a_config(run_type="draft"), questions(4), a_sweep / "draft"):
            pass

    with pytest.raises(RunError, match="shared by arbiter sweep"):
        anyio.run(resume)


def test_every_file_of_a_point_has_the_simulated_times_or_none(a_sweep: Path) -> None:
    found = msgspec.json.decode(of_document((a_sweep / "sweep.json").read_bytes()), type=SweepResult)
    for row in found.points:
        summary = msgspec.json.decode(of_document((a_sweep / row.point / "summary.json").read_bytes()), type=Summary)
        stored = list(read_records(a_sweep / row.point / "results.jsonl", Result))
        assert summary == row.summary
        assert summary.simulated
        assert summary.latency.mean == pytest.approx(sum(one.solution.seconds for one in stored) / len(stored))
        for one in stored:
            assert one.solution.seconds >= sum(step.kept.seconds for step in one.solution.steps) - 1e-5


def test_the_rows_of_the_sweep_are_a_csv_as_well(a_sweep: Path) -> None:
    with (a_sweep / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["point"] for row in rows] == ["draft", "router-0.2", "router-0.8"]
    assert {row["simulated"] for row in rows} == {"True"}
    assert int(rows[0]["needed.requests"]) >= int(rows[0]["made.requests"])


def test_a_report_takes_the_sweep_or_all_that_is_in_it_and_marks_its_times(a_sweep: Path) -> None:
    text = report_on([a_sweep]).to_markdown()
    assert text == report_on(list(a_sweep.iterdir())).to_markdown()
    assert text.count("(simulated)") == 2 * 3


def test_a_point_that_is_not_finished_is_marked_as_well(a_sweep: Path) -> None:
    (a_sweep / "draft" / "summary.json").unlink()
    text = report_on([a_sweep / "draft"]).to_markdown()
    assert "unfinished" in text
    assert text.count("(simulated)") == 1  # its wall time is not known


def test_measured_and_simulated_times_are_told_apart_in_a_report(
    a_sweep: Path, a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions, tmp_path: Path
) -> None:
    swept(tmp_path / "alone", plan(a_config(), ["draft"], []), a_seen_world(2), questions(4), alone=True)
    warnings = report_on([a_sweep / "draft", tmp_path / "alone" / "draft"]).warnings
    assert any("some latencies are measured, others are simulated" in warning for warning in warnings)


def test_a_damaged_summary_of_a_point_is_written_again_by_the_sweep(
    a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions, tmp_path: Path
) -> None:
    points = plan(a_config(), ["draft", "router"], ["0.2"])
    swept(tmp_path, points, a_seen_world(2), questions(4), alone=True)
    (tmp_path / "draft" / "summary.json").write_bytes(b"{")
    with pytest.raises(RunError, match=f"write it again from the log: arbiter sweep --resume {tmp_path}$"):
        report_on([tmp_path / "draft"])
    requests: list[object] = []
    swept(tmp_path, points, a_seen_world(2, requested=requests.append), questions(4), alone=True)
    assert (report_on([tmp_path / "draft"]).entries[0].summary.decoded, requests) == (4, [])


def test_grading_a_point_again_keeps_its_times_marked(a_sweep: Path) -> None:
    assert anyio.run(regrade, a_sweep / "draft").summary.simulated
    (a_sweep / "draft" / "summary.json").unlink()
    assert anyio.run(regrade, a_sweep / "draft").summary.simulated
