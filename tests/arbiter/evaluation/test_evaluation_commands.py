"""``arbiter evaluate`` and ``arbiter tune``, run as commands."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from arbiter.evaluation.checkpoints import RouterCheckpoint
from arbiter.evaluation.evaluate import evaluate
from arbiter.evaluation.evaluation_report import as_markdown
from arbiter.evaluation.evaluation_results import Evaluation
from arbiter.training.inference import folder_of
from arbiter.training.training_data import read_rows

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_report_on_a_router(rows_file: Path) -> None:
    router = RouterCheckpoint("runs/router", lambda rows: [[round(0.9 - 0.8 * row.draft_score, 3)] for row in rows])
    text = as_markdown(evaluate(read_rows(rows_file), "collected", "test", router, 200))
    assert text == (Path(__file__).parent / "evaluation.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_without_a_model_the_scores_that_need_no_training_are_evaluated(arbiter: Command, rows_file: Path) -> None:
    options = ("--data", str(rows_file), "--resamples", "100")
    found = arbiter("evaluate", "router", *options, "--out", "report")
    assert found.returncode == 0, found.stderr
    assert "|  | rsd | confidence | random | oracle |" in found.stdout
    assert "the evaluation is in report" in found.stderr
    assert (rows_file.parent / "report" / "gain.svg").stat().st_size > 1000
    found = arbiter("evaluate", "router", *options, "--json")
    evaluation = msgspec.json.decode(found.stdout, type=Evaluation)
    stored = msgspec.json.decode((rows_file.parent / "report" / "evaluation.json").read_bytes(), type=Evaluation)
    assert evaluation == stored


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "nowhere"), "nowhere"),
        (("--data", "{rows}", "--resamples", "10"), "--resamples 10: give 100 or more"),
        (("--data", "{rows}", "--split", "held-out"), "held-out"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused_in_a_line(
    arbiter: Command, rows_file: Path, options: tuple[str, ...], message: str
) -> None:
    found = arbiter("evaluate", "router", *(option.format(rows=rows_file) for option in options))
    assert (found.returncode, found.stdout) == (2, "")
    assert message in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_router_that_does_not_say_how_it_reads_a_step_is_refused(arbiter: Command, rows_file: Path) -> None:
    bare = rows_file.parent / "bare"
    shutil.copytree(folder_of("pocket:router"), bare, ignore=shutil.ignore_patterns("arbiter.json"))
    found = arbiter("evaluate", "router", "--data", str(rows_file), "--model", str(bare))
    assert (found.returncode, found.stdout) == (2, "")
    assert f"it is unknown how {bare} reads a step, since it has no arbiter.json" in found.stderr
    assert found.stderr.count("\n") == 1


def test_the_threshold_is_written_into_a_copy_of_the_configuration(arbiter: Command, rows_file: Path) -> None:
    found = arbiter(
        *("tune", "pocket", "--data", str(rows_file), "--escalation", "0.2", "--policy", "rsd"),
        *("--out", "tuned.toml", "--json"),
    )
    assert found.returncode == 0, found.stderr
    written = tomllib.loads((rows_file.parent / "tuned.toml").read_text())
    tuned = msgspec.json.decode(found.stdout)
    assert (written["run_type"], written["thresholds"]["rsd"]) == ("rsd", tuned["threshold"]["value"])
    assert tuned["held_out"].keys() == tuned["expected"].keys()
    assert "without its comments" in found.stderr


@pytest.mark.slow
def test_a_pocket_router_is_asked_as_its_configuration_says(arbiter: Command, rows_file: Path) -> None:
    pytest.importorskip("torch")
    found = arbiter("tune", "pocket", "--data", str(rows_file), "--escalation", "0.2", "--out", "tuned.toml")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("router: τ = ")
    assert "| steps escalated |" in found.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--data", "{rows}"),
            "exactly one is needed: give one of --escalation, --target-tokens, --latency, --accuracy",
        ),
        (("--data", "{rows}", "--escalation", "1.5"), "--escalation 1.5: give a number from 0 to 1"),
        (("--data", "{rows}", "--latency", "inf"), "--latency inf: give a number 0 or more"),
        (("--data", "{rows}", "--accuracy", "0.8"), "--accuracy needs graded runs"),
        (("--escalation", "0.5"), "exactly one of --data and --sweep"),
        (("--sweep", "nowhere", "--accuracy", "0.8"), "'nowhere' is not a sweep folder"),
        (("--data", "{rows}", "--escalation", "0.5", "--policy", "rsd", "--resamples", "9"), "--resamples 9: give 100"),
    ],
)
def test_a_budget_that_cannot_be_tuned_for_is_refused_in_a_line(
    arbiter: Command, rows_file: Path, options: tuple[str, ...], message: str
) -> None:
    found = arbiter("tune", "pocket", *(option.format(rows=rows_file) for option in options), "--out", "tuned.toml")
    assert (found.returncode, found.stdout) == (2, "")
    assert message in found.stderr
    assert not (rows_file.parent / "tuned.toml").exists()


def test_where_a_library_is_missing_evaluation_says_what_to_install() -> None:
    program = "import sys; sys.modules['scipy'] = None; import arbiter.evaluation"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "evaluation needs scipy, which is not installed: pip install -e '.[train]'" in found.stderr
