"""The whole reproduction of docs/explanation/reproduction.md on the pocket models, with few problems."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers is typed in part)

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

from arbiter.config.config import load_config
from arbiter.evaluation.paper.ablation import VARIANTS
from arbiter.training.training_data import read_rows
from tests.command_line import call_arbiter

pytestmark = pytest.mark.nightly

REPRODUCE = "reproduce own.toml --rows rows --limit 6 --acceptance 0.5,0.8 --resamples 100"


def arbiter(folder: Path, command: str) -> str:
    """Run a command that must succeed, and return its standard output."""
    done = call_arbiter(*command.split(), folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def requests(folder: Path) -> dict[str, int]:
    """Return the number of requests in the log of each run of the comparison."""
    logs = (folder / "reproduction" / "sweep").glob("*/events.jsonl")
    return {path.parent.name: path.read_text(encoding="utf-8").count('"kind":"call_started"') for path in logs}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the whole reproduction."""
    path = tmp_path_factory.mktemp("pipeline")
    arbiter(path, "collect pocket --data pocket-train:3 --limit 36 --test 0.3 --out rows")
    training = "--epochs 1 --batch 16 --learning-rate 1e-4"
    arbiter(path, f"train router --data rows --base pocket:prm {training} --out router")
    arbiter(path, "evaluate router --data rows --model router --resamples 100 --out evaluation")
    config = (Path(__file__).parents[4] / "configs" / "pocket.toml").read_text(encoding="utf-8")
    (path / "own.toml").write_text(config.replace('"pocket:router"', '"router"'), encoding="utf-8")
    arbiter(path, "tune own.toml --data rows --escalation 0.2 --resamples 100 --out tuned.toml")
    arbiter(path, f"{REPRODUCE} --out reproduction")
    return path


def test_a_collection_has_all_three_parts_and_no_problem_in_two(folder: Path) -> None:
    parts: dict[str, set[str]] = {}
    for row in read_rows(folder / "rows"):
        parts.setdefault(row.split, set()).add(row.problem)
        assert row.confidence is not None
    assert set(parts) == {"train", "validation", "test"}
    assert sum(map(len, parts.values())) == len(set[str]().union(*parts.values()))


def test_a_trained_router_is_a_plain_classifier_of_two_classes(folder: Path) -> None:
    load: Any = AutoModelForSequenceClassification.from_pretrained
    assert load(folder / "router").config.num_labels == 2


def test_a_tuned_configuration_can_be_run(folder: Path) -> None:
    tuned = load_config(str(folder / "tuned.toml"))
    assert tuned.run_type == "router"
    assert 0 <= (tuned.threshold or 0) <= 1
    assert arbiter(folder, "bench tuned.toml --limit 3 --json")


def test_an_evaluation_is_told_with_plots(folder: Path) -> None:
    there = {path.name for path in (folder / "evaluation").iterdir()}
    assert {"evaluation.json", "evaluation.md", "gain.png", "gain.svg", "reliability.png", "reliability.svg"} <= there


def test_a_reproduction_has_all_run_types_at_all_rates(folder: Path) -> None:
    found = json.loads((folder / "reproduction" / "reproduction.json").read_text())["comparison"]
    assert found["problems"] == 6
    assert {point["run_type"] for point in found["points"]} == {
        "draft", "target", "random", "confidence", "rsd", "router", "oracle",
    }  # fmt: skip
    assert {(each["one"], each["other"]) for each in found["differences"]} == {
        ("router", "random"),
        ("router", "confidence"),
        ("router", "rsd"),
        ("oracle", "router"),
    }
    assert len(found["differences"]) == 4 * 2
    assert all(point["seconds_alone"] > 0.05 for point in found["points"])


def test_a_reproduction_has_the_ablation(folder: Path) -> None:
    found = json.loads((folder / "reproduction" / "reproduction.json").read_text())
    assert [each["variant"] for each in found["ablation"]] == list(VARIANTS)


def test_the_table_has_a_line_a_run(folder: Path) -> None:
    found = json.loads((folder / "reproduction" / "reproduction.json").read_text())["comparison"]
    with (folder / "reproduction" / "runs.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [point["name"] for point in found["points"]]


def test_the_page_needs_no_other_file(folder: Path) -> None:
    shown = (folder / "reproduction" / "report.html").read_text()
    assert shown.count('src="data:image/svg+xml;base64,') == 4
    assert not re.search(r'(src|href)="(?!data:)', shown)
    text = (folder / "reproduction" / "report.md").read_text()
    assert all((folder / "reproduction" / name).is_file() for name in re.findall(r"\]\((\S+\.png)\)", text))


def test_what_is_there_is_not_made_again(folder: Path) -> None:
    before = (folder / "reproduction" / "ablation").stat().st_mtime_ns
    made = requests(folder)
    arbiter(folder, f"{REPRODUCE} --no-ablation --out reproduction")
    assert (folder / "reproduction" / "ablation").stat().st_mtime_ns == before
    assert requests(folder) == made
