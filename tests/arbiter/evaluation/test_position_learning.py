"""Thresholds by position, learned from rows: they spend where the score finds gains, and keep the share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.step_offsets import threshold_at
from arbiter.cli.fit import fit_command
from arbiter.config.config import load_config
from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.position_learning import learned_positions
from arbiter.protocols.errors import DataError

Rows = Callable[..., TrainingRow]


def rows_at(steps: list[int]) -> list[TrainingRow]:
    return [TrainingRow(f"p{n}", "q", step, (), "d", 0.5, ("t",), (0.5,)) for n, step in enumerate(steps)]


def escalated(steps: list[int], score: list[float], threshold: float, offsets: tuple[float, ...]) -> list[bool]:
    return [value > threshold_at(threshold, offsets, step) for step, value in zip(steps, score, strict=True)]


def test_the_target_is_spent_at_the_positions_where_the_score_finds_a_gain() -> None:
    steps = [n % 2 for n in range(400)]
    score = [n / 400 for n in range(400)]
    delta = [1.0 if step == 1 and value > 0.5 else 0.0 for step, value in zip(steps, score, strict=True)]
    found = learned_positions(rows_at(steps), np.array(score), np.array(delta), 0.25, 2)
    chosen = escalated(steps, score, found.threshold, found.offsets)
    assert len(found.offsets) == 2
    assert [step for step, one in zip(steps, chosen, strict=True) if one] == [1] * 100
    assert sum(one and gain for one, gain in zip(chosen, delta, strict=True)) == sum(delta)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.integers(-10, 10)), min_size=50, max_size=300),
    st.floats(0.05, 0.95),
    st.integers(1, 5),
)
def test_no_more_than_the_share_of_the_rows_is_escalated(
    drawn: list[tuple[int, int, int]], share: float, positions: int
) -> None:
    steps, score, delta = ([one[0] for one in drawn], [one[1] / 20 for one in drawn], [one[2] / 10 for one in drawn])
    found = learned_positions(rows_at(steps), np.array(score), np.array(delta), share, positions)
    assert 1 <= len(found.offsets) <= positions
    assert np.mean(escalated(steps, score, found.threshold, found.offsets)) <= share + 0.05


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="49 rows are too few"):
        learned_positions(rows_at([0] * 49), np.zeros(49), np.zeros(49), 0.5, 3)


def collection(a_row: Rows, folder: Path) -> Path:
    rows = [
        msgspec.structs.replace(a_row(f"p{n}", n / 200, 0.9, confidence=(n + 1) / 201), step=n % 2, split="train")
        for n in range(200)
    ]
    (folder / "rows.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return folder / "rows.jsonl"


def test_fit_writes_a_configuration_with_the_threshold_and_the_offsets(a_row: Rows, tmp_path: Path) -> None:
    data, out = collection(a_row, tmp_path), tmp_path / "out.toml"
    config = tmp_path / "in.toml"
    text = (Path(__file__).parents[3] / "configs" / "pocket.toml").read_text()
    config.write_text(text.replace('run_type = "router"', 'run_type = "confidence"'))
    options: dict[str, Any] = {"policy": "positions", "escalation": 0.3, "positions": 2}
    assert fit_command(str(config), out, data=data, **options) == 0
    found = load_config(str(out))
    assert (found.run_type, len(found.step_offsets)) == ("confidence", 2)
    assert found.policy() == load_config(str(out)).policy()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "positions", "bins": 3}, "--bins is for another --policy"),
        ({"policy": "pomdp", "escalation": 0.5}, "--escalation is for another --policy"),
        ({"policy": "positions", "escalation": 1.5}, "--escalation must be above 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    a_row: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], message: str
) -> None:
    assert fit_command("pocket", tmp_path / "out.toml", data=collection(a_row, tmp_path), **options) == 2
    assert message in capsys.readouterr().err
