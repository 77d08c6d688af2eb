"""Evaluations: figures, refusals, tables and plots."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.checkpoints import RouterCheckpoint
from arbiter.evaluation.evaluate import evaluate
from arbiter.evaluation.evaluation_report import as_markdown, gain_csv, outcomes_csv, write
from arbiter.evaluation.evaluation_results import Evaluation, ScoreMetrics
from arbiter.evaluation.scores import advantages, scores
from arbiter.protocols.errors import DataError, ReportError

Rows = Callable[..., TrainingRow]


def knowing(rows: Sequence[TrainingRow]) -> list[list[float]]:
    """Return a router whose ŷ depends in part on the advantage."""
    return [[float(np.clip(0.5 + row.advantage / 2 - 0.2 * row.draft_score, 0, 1))] for row in rows]


ROUTER = RouterCheckpoint("a-router", knowing)


@pytest.fixture(scope="module")
def evaluation(some_rows: list[TrainingRow]) -> Evaluation:
    return evaluate(some_rows, "collected", "test", ROUTER, 200)


def found_of(evaluation: Evaluation, name: str) -> ScoreMetrics:
    return next(score for score in evaluation.targets[0].scores if score.score == name)


def test_all_scores_stand_side_by_side(evaluation: Evaluation) -> None:
    [target] = evaluation.targets
    assert [score.score for score in target.scores] == ["router", "rsd", "confidence", "random", "oracle"]
    assert target.steps == sum(score.steps for score in found_of(evaluation, "router").reliability)
    assert [(pair.score, pair.other) for pair in target.differences] == [
        ("router", "rsd"),
        ("router", "confidence"),
        ("router", "random"),
    ]


def test_every_interval_holds_its_figure(evaluation: Evaluation) -> None:
    for score in evaluation.targets[0].scores:
        for figure in (score.spearman, score.auroc, score.area, *(gain.captured for gain in score.gains)):
            assert figure.value is not None
            assert figure.interval is not None
            assert figure.interval[0] - 0.02 <= figure.value <= figure.interval[1] + 0.02, score.score


def test_the_oracle_knows_all_and_chance_nothing(evaluation: Evaluation) -> None:
    oracle, random = (found_of(evaluation, name) for name in ("oracle", "random"))
    assert (oracle.spearman.value, oracle.auroc.value) == (pytest.approx(1), 1)
    assert (random.spearman.value, random.auroc.value, random.area.value) == (0, 0.5, pytest.approx(0.5))
    assert random.outcomes == ()


def test_only_a_probability_has_a_calibration(evaluation: Evaluation) -> None:
    assert [score.score for score in evaluation.targets[0].scores if score.ece or score.brier or score.reliability] == [
        "router"
    ]


def test_thresholds_are_quantiles_of_the_validation_split(evaluation: Evaluation, some_rows: list[TrainingRow]) -> None:
    wishes = sorted(-row.draft_score for row in some_rows if row.split == "validation")
    assert evaluation.calibrated_on == "validation"
    for found in found_of(evaluation, "rsd").outcomes:
        above = sum(request > found.threshold for request in wishes) / len(wishes)
        assert found.aimed - 1 / len(wishes) < above <= found.aimed + 1e-9


def test_without_a_validation_split_the_thresholds_are_those_of_the_steps_themselves(
    some_rows: list[TrainingRow],
) -> None:
    tested = [row for row in some_rows if row.split == "test"]
    found = evaluate(tested, "collected", resamples=100)
    assert found.calibrated_on == "test"
    assert found.model is None
    assert found.targets[0].differences == ()


def test_the_same_seed_gives_the_same_bytes(some_rows: list[TrainingRow]) -> None:
    first, second, other = (evaluate(some_rows, "collected", "test", ROUTER, 100, seed) for seed in (1, 1, 2))
    assert msgspec.json.encode(first) == msgspec.json.encode(second)
    assert msgspec.json.encode(first) != msgspec.json.encode(other)


def test_the_scores_of_a_step_are_higher_where_an_escalation_is_wanted(a_row: Rows) -> None:
    rows = [a_row("a", 0.2, 0.9, confidence=0.3), a_row("b", 0.8, 0.6, confidence=None)]
    found = {scored.name: scored.score.tolist() for scored in scores(rows, advantages(rows))}
    assert found == {
        "rsd": [-0.2, -0.8],
        "random": [0, 0],
        "oracle": pytest.approx([0.7, -0.2]),
    }


def test_each_target_has_its_own_advantage(a_row: Rows) -> None:
    fields = {"targets": ("x", "y", "z"), "target_scores": (0.4, 0.6, 0.9), "target_names": ("s", "s", "l")}
    rows = [msgspec.structs.replace(a_row("a", 0.5), **fields)]
    found = (advantages(rows, name)[0] for name in ("s", "l", ""))
    assert tuple(found) == pytest.approx((0.0, 0.4, 0.4 / 3))
    with pytest.raises(DataError, match="step 0 of a has no sample of the target 'none'"):
        advantages(rows, "none")


def test_each_head_of_a_router_is_evaluated_against_its_target(some_rows: list[TrainingRow]) -> None:
    rows = [
        msgspec.structs.replace(
            row, targets=("x", "y"), target_scores=(row.target_scores[0], 0.5), target_names=("small", "large")
        )
        for row in some_rows
    ]
    router = RouterCheckpoint("two", lambda some: [[1 - row.draft_score, 0.5] for row in some], ("large", "small"))
    found = evaluate(rows, "collected", "test", router, 100)
    large, small = found.targets
    assert (large.target, small.target) == ("large", "small")
    assert large.scores[0].spearman.value == pytest.approx(1)
    assert small.scores[0].spearman.value == 0
    assert "target large: " in as_markdown(found)


@pytest.mark.parametrize(
    ("split", "target", "message"),
    [
        ("train", 0.7, "no rows of the split 'train'; choose another one with --split: test"),
        ("test", 0.4, "no step of the split 'test' has Δ > 0"),
        ("test", 0.7, "every step of the split 'test' has Δ > 0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_the_way_out(
    a_row: Rows, split: str, target: float, message: str
) -> None:
    rows = [a_row(str(number), 0.5, target) for number in range(3)]
    with pytest.raises(DataError, match=message):
        evaluate(rows, "collected", "train" if split == "train" else "test")


def test_a_router_without_an_answer_for_each_target_is_refused(some_rows: list[TrainingRow]) -> None:
    with pytest.raises(DataError, match="two returns 2 ŷ per step for 1 targets"):
        evaluate(some_rows, "collected", "test", RouterCheckpoint("two", lambda rows: [[0.1, 0.2] for _ in rows]))


@pytest.mark.slow
def test_the_files_of_an_evaluation(evaluation: Evaluation, tmp_path: Path) -> None:
    assert write(evaluation, tmp_path / "out") is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "evaluation.json",
        "evaluation.md",
        "gain.csv",
        "gain.png",
        "gain.svg",
        "outcomes.csv",
        "reliability.png",
        "reliability.svg",
    ]
    stored = msgspec.json.decode((tmp_path / "out" / "evaluation.json").read_bytes(), type=Evaluation)
    assert stored == evaluation
    for name in ("gain", "reliability"):
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert image.format == "PNG"
            assert len(image.convert("RGB").getcolors(image.width * image.height) or []) > 10
        assert "</svg>" in (tmp_path / "out" / f"{name}.svg").read_text()


@pytest.mark.slow
def test_a_router_is_needed_for_a_reliability_diagram(some_rows: list[TrainingRow], tmp_path: Path) -> None:
    write(evaluate(some_rows, "collected", resamples=100), tmp_path)
    assert not (tmp_path / "reliability.png").exists()
    assert "reliability" not in (tmp_path / "evaluation.md").read_text()


def test_a_folder_that_cannot_be_written_is_named(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot write the evaluation into"):
        write(evaluation, tmp_path / "file")


def test_the_tables_for_other_programs(evaluation: Evaluation) -> None:
    gain = list(csv.DictReader(io.StringIO(gain_csv(evaluation))))
    assert len(gain) == 5 * 51
    assert list(gain[0]) == [
        *("target", "score", "escalated", "captured", "captured_low", "captured_high", "net", "net_low", "net_high")
    ]
    outcomes = list(csv.DictReader(io.StringIO(outcomes_csv(evaluation))))
    assert len(outcomes) == 4 * 19
    assert sum(float(outcomes[0][name]) for name in ("kept", "improved", "wasted", "harmed")) == pytest.approx(1)
