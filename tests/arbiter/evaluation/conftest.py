"""Constructed or random collected steps."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from arbiter.data.training_rows import VERSION, Split, TrainingRow
from arbiter.evaluation.scores import StepScores
from arbiter.runs.reports.resampling import Floats


@pytest.fixture(scope="session")
def a_row() -> Callable[..., TrainingRow]:
    """Return a step with the advantage ``target`` - ``draft``."""

    def build(problem: str = "p", draft: float = 0.5, target: float = 0.7, **fields: Any) -> TrainingRow:
        given: dict[str, Any] = {"step": 0, "target_tokens": (10,), "confidence": 0.6, "split": "test", **fields}
        return TrainingRow(
            problem=problem,
            question=f"question {problem}",
            history=(),
            draft="a draft",
            draft_score=draft,
            targets=("a target",),
            target_scores=(target,),
            version=VERSION,
            **given,
        )

    return build


@pytest.fixture(scope="session")
def some_rows(a_row: Callable[..., TrainingRow]) -> list[TrainingRow]:
    """Return steps of 60 problems, a third in each split. Drafts with low scores gain more."""
    rng = np.random.default_rng(7)
    splits: Sequence[Split] = ("train", "validation", "test")
    rows: list[TrainingRow] = []
    for problem in range(60):
        for step in range(int(rng.integers(2, 7))):
            draft = float(rng.random())
            moved = draft + float(rng.normal(0.2 * (1 - draft), 0.2)) * float(rng.random() < 0.8)
            fields = {"step": step, "confidence": float(rng.uniform(0.1, 1)), "split": splits[problem % 3]}
            rows.append(a_row(f"p{problem}", draft, float(np.clip(moved, 0, 1)), **fields))
    return rows


@pytest.fixture
def rows_file(some_rows: list[TrainingRow], tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in some_rows))
    return path


@pytest.fixture(scope="session")
def scored() -> Callable[..., StepScores]:
    """Return steps, each of a separate problem unless ``problem`` is given."""

    def build(score: Sequence[float] | Floats, delta: Sequence[float] | Floats, problem: Any = None) -> StepScores:
        numbers = np.arange(len(score)) if problem is None else np.asarray(problem)
        return StepScores("router", numbers, np.asarray(delta, float), np.asarray(score, float), 0.5, True)

    return build
