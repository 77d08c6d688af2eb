"""Rows and labelled solutions are read; errors name the line."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch

from arbiter.backends.prompts import PromptTemplate
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import BackendError, ConfigError, DataError
from arbiter.training.inference import predict
from arbiter.training.metadata import read_metadata
from arbiter.training.metrics import auroc, best_temperature
from arbiter.training.training_data import Solved, read_rows, read_solved


def test_rows_are_read_from_their_file_or_its_folder(tmp_path: Path, a_row: Callable[..., TrainingRow]) -> None:
    rows = [a_row("a"), a_row("b", confidence=0.5)]
    (tmp_path / "rows.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(rows))
    assert read_rows(tmp_path) == read_rows(tmp_path / "rows.jsonl") == rows


def test_a_row_of_the_first_format_is_read(tmp_path: Path) -> None:
    line = (
        b'{"problem":"1","question":"q","step":0,"history":[],"draft":"d","draft_score":0.5,'
        b'"targets":["t"],"target_scores":[0.75]}\n'
    )
    (tmp_path / "rows.jsonl").write_bytes(line)
    row = read_rows(tmp_path)[0]
    assert (row.version, row.split, row.source, row.confidence, row.advantage) == (1, "train", "", None, 0.25)


GOOD = (
    '{"problem":"1","question":"q","step":0,"history":[],"draft":"d","draft_score":0.5,'
    '"targets":["t"],"target_scores":[0.7]'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no row"),
        (f"{GOOD}}}\nnonsense\n", "line 2"),
        (f'{GOOD},"version":3}}\n', "line 1: its format has the version 3"),
        (f'{GOOD},"target_names":["a","b"]}}\n', "1 targets, 2 target_names"),
        (GOOD.replace('["t"]', "[]") + "}\n", "0 targets, 1 target_scores"),
        (f'{GOOD},"split":"half"}}\n', r"\$.split"),
    ],
)
def test_a_row_that_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_rows(tmp_path)
    assert "\n" not in str(caught.value)


def test_rows_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_rows(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question": "q", "steps": ["a"], "labels": [1, 0]}, "1 steps, 2 labels"),
        ({"question": "q", "steps": ["a"], "labels": [2]}, "line 1"),
        ({"question": "q", "labels": [1]}, "steps"),
    ],
)
def test_labelled_solutions_are_checked(tmp_path: Path, line: dict[str, object], message: str) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_bytes(msgspec.json.encode({"question": "q", "steps": ["a", "b"], "labels": [1, 0.5]}) + b"\n")
    assert read_solved(path) == [Solved("q", ("a", "b"), (1.0, 0.5))]
    path.write_bytes(msgspec.json.encode(line) + b"\n")
    with pytest.raises(DataError, match=message):
        read_solved(path)


def test_a_checkpoint_without_a_recipe_needs_a_prompt(prm: Path, a_row: Callable[..., TrainingRow]) -> None:
    with pytest.raises(ConfigError, match="name its prompt"):
        predict(str(prm), [a_row()])
    found = predict(str(prm), [a_row(), a_row(history=())], template=PromptTemplate("{question}\n"))
    assert [len(values) for values in found] == [1, 1]


def test_a_row_that_no_model_can_read_is_named(prm: Path, a_row: Callable[..., TrainingRow]) -> None:
    with pytest.raises(DataError, match="problem 'p', step 1"):
        predict(str(prm), [a_row(draft="1+" * 600)], template=PromptTemplate("{question}\n"))


def test_labels_that_nothing_explains_are_refused(base: Callable[..., Path], a_row: Callable[..., TrainingRow]) -> None:
    with pytest.raises(BackendError, match="has 4 labels"):
        predict(str(base(labels=4)), [a_row()], template=PromptTemplate("{question}\n"))


def test_a_damaged_recipe_is_told(tmp_path: Path) -> None:
    assert read_metadata(tmp_path) is None
    (tmp_path / "arbiter.json").write_text("{")
    with pytest.raises(DataError, match=r"arbiter\.json"):
        read_metadata(tmp_path)


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [
        ([2.0, 3.0], [0.0, 1.0], 1.0),
        ([0.0], [1.0], 0.0),
        ([1.0], [1.0], 0.5),
        ([0.0, 2.0], [1.0], 0.5),
        ([1.0], [], None),
    ],
)
def test_auroc_is_the_chance_that_a_positive_outranks_a_negative(
    positive: list[float], negative: list[float], expected: float | None
) -> None:
    assert auroc([*positive, *negative], [True] * len(positive) + [False] * len(negative)) == expected


def test_the_temperature_of_answers_that_are_twice_too_sure_is_two() -> None:
    generator = torch.Generator().manual_seed(1)
    honest = torch.randn(20000, generator=generator)
    happened = torch.rand(20000, generator=generator) < torch.sigmoid(honest)
    logits = torch.stack([-honest, honest], -1)  # the softmax of these is sigmoid(2·honest)
    assert best_temperature(logits, happened, classes=False) == pytest.approx(2.0, rel=0.1)
