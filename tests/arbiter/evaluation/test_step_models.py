"""The model of steps that rows teach: how often they are right, and what scores tell about it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.actors.beliefs import BeliefConfidence
from arbiter.cli.fit import fit_command
from arbiter.config.config import load_config
from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.step_models import learned_model
from arbiter.protocols.errors import DataError

Rows = Callable[..., TrainingRow]


def collected(a_row: Rows, **fields: Any) -> list[TrainingRow]:
    """Forty drafts that are right and sure, and forty that are wrong and unsure in three of four cases."""
    good = [a_row(f"g{n}", 1.0, 0.9, confidence=0.9, **fields) for n in range(40)]
    return good + [a_row(f"b{n}", 0.0, 0.9, confidence=0.9 if n % 4 == 0 else 0.2, **fields) for n in range(40)]


def test_the_mean_rewards_are_how_often_steps_are_right(a_row: Rows) -> None:
    model = learned_model(collected(a_row), "confidence", 2)
    model.check()
    assert (model.draft_right, model.target_right) == (0.5, 0.9)
    assert model.edges == (0.9,)
    assert model.right == pytest.approx((1 / 42, 41 / 42), abs=1e-6)
    assert model.wrong == pytest.approx((31 / 42, 11 / 42), abs=1e-6)


@pytest.mark.parametrize("bins", [2, 3, 4])
def test_a_learned_model_adds_up_and_can_be_used(a_row: Rows, bins: int) -> None:
    rows = [a_row(f"p{n}", n / 100, 0.9, confidence=(n + 1) / 100) for n in range(100)]
    for score in ("confidence", "prm"):
        model = learned_model(rows, score, bins)
        model.check()
        assert len(model.right) == bins
        assert model.right[-1] > model.right[0]


@pytest.mark.parametrize(
    ("fields", "bins", "message"),
    [
        ({"confidence": None}, 2, "80 of 80 rows have no confidence of the draft"),
        ({}, 5, "80 rows are too few for 5 bins: 100 or more are needed"),
    ],
)
def test_rows_that_teach_nothing_are_refused(a_row: Rows, fields: dict[str, Any], bins: int, message: str) -> None:
    rows = [msgspec.structs.replace(row, **fields) for row in collected(a_row)]
    with pytest.raises(DataError, match=message):
        learned_model(rows, "confidence", bins)


def test_the_command_writes_a_configuration_with_the_learned_table(
    a_row: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "pomdp.toml"
    encoded = [msgspec.json.encode(row) + b"\n" for row in collected(a_row, split="train")]
    rows.write_bytes(b"".join(encoded))
    assert fit_command("pocket", out, data=rows, bins=2, json=True) == 0
    table = json.loads(capsys.readouterr().out)
    assert (table["score"], table["draft_right"]) == ("confidence", 0.5)
    config = load_config(str(out))
    policy = config.policy()
    assert config.run_type == "pomdp"
    assert isinstance(policy, BeliefConfidence)
    assert policy.model == learned_model(collected(a_row), "confidence", 2)
    assert fit_command("pocket", out, data=rows, bins=1) == 2


def test_steps_after_wrong_ones_say_nothing_about_how_often_steps_are_right(a_row: Rows) -> None:
    first = [a_row(f"p{n}", float(n % 2), 0.5, confidence=0.9, step=0, kept="draft") for n in range(80)]
    later = [a_row(f"p{n}", 0.5 * (n % 2), 0.0, confidence=0.5, step=1) for n in range(80)]
    model = learned_model([*first, *later], "confidence", 2)
    assert (model.draft_right, model.target_right) == (0.5, 0.333333)  # 80 first steps, and 40 after right ones


def test_how_often_the_target_is_right_is_learned_for_each_bin(a_row: Rows) -> None:
    sure = [a_row(f"s{n}", 1.0, 0.2, confidence=0.9) for n in range(50)]
    model = learned_model([*sure, *(a_row(f"u{n}", 0.0, 0.8, confidence=0.1) for n in range(50))], "confidence", 2)
    assert model.target_right == 0.5
    assert model.target_by_bin == pytest.approx((0.8, 0.2), abs=0.01)
