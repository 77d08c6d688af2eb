"""A head on the draft: what it learns, that it is the same each time, and how the commands train and evaluate it."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (torch is typed in part)

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from arbiter.backends.draft_features import feature_names
from arbiter.backends.head_model import HeadMetadata, load_head
from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.checkpoints import checkpoint
from arbiter.pocket import world
from arbiter.protocols.errors import ConfigError, DataError
from arbiter.training.head_inference import predict_with_head
from arbiter.training.head_networks import HeadNetwork, Learned, fitted, save_head
from arbiter.training.head_training import HeadSettings, train_head

pytestmark = pytest.mark.slow

Rows = Callable[..., TrainingRow]


@pytest.fixture
def settings(base: Callable[..., Path]) -> HeadSettings:
    return HeadSettings(draft=str(base("ForCausalLM")), prompt=world.PROMPT, seed=3)


@pytest.mark.parametrize("features", ["logprobs", "logprobs+entropy", "logprobs+entropy+hidden"])
def test_a_trained_head_is_read_back_as_it_was_trained_and_the_same_each_time(
    settings: HeadSettings, rows: list[TrainingRow], tmp_path: Path, features: Any
) -> None:
    settings = msgspec.structs.replace(settings, features=features)
    metadata = train_head(settings, rows, tmp_path / "one")
    again = train_head(settings, rows, tmp_path / "two")
    assert metadata == again
    for name in ("arbiter.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    head = load_head(str(tmp_path / "one"))
    assert head.metadata == metadata
    assert metadata.names == feature_names(features, 32)
    assert metadata.cross_validation[metadata.shape] == max(metadata.cross_validation.values())
    assert metadata.rows["train"] == sum(row.split == "train" for row in rows)
    assert set(metadata.figures) == {"validation_loss", "auroc", "spearman"}
    router = checkpoint(str(tmp_path / "one"))
    assert router.predict(rows[:7]) == predict_with_head(head, rows[:7])
    alone = [predict_with_head(head, [row])[0][0] for row in rows[:3]]
    assert alone == pytest.approx([values[0] for values in router.predict(rows)[:3]], abs=1e-5)


@pytest.mark.parametrize("shape", ["linear", "hidden layer"])
def test_a_head_without_torch_computes_what_the_network_computes(shape: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    features = torch.randn(90, 10, dtype=torch.float64) * 3 + 1
    labels = (features[:, :2] > 1).double()
    labels[::4, 1] = float("nan")  # a target without a candidate
    network = fitted(shape, Learned(features, labels, torch.ones(90, dtype=torch.float64), ["p"] * 90), seed=0)
    known = ~labels.isnan()
    assert float(((network.logits(features) > 0) == (labels > 0))[known].double().mean()) > 0.9
    network.divide([2.0, 0.5])
    metadata = HeadMetadata(
        draft="d", prompt="{question}", separator="\n", features="logprobs", shape=shape, targets=("a", "b")
    )
    save_head(network, metadata, tmp_path)
    head = load_head(str(tmp_path))
    for row, expected in zip(features[:9], torch.sigmoid(network.logits(features[:9])), strict=True):
        assert head.estimates(row.tolist()) == pytest.approx(expected.tolist(), abs=1e-5)


def test_dropout_is_for_training_alone() -> None:
    network = HeadNetwork("hidden layer", torch.randn(9, 3, dtype=torch.float64), 1).eval()
    features = torch.randn(5, 3, dtype=torch.float64)
    assert torch.equal(network.logits(features), network.logits(features))


def test_several_targets_have_an_estimate_each(settings: HeadSettings, rows: list[TrainingRow], tmp_path: Path) -> None:
    named = [
        msgspec.structs.replace(
            row,
            targets=("a", "b"),
            target_scores=(row.target_scores[0], 1 - row.target_scores[0]),
            target_names=("s", "l"),
        )
        for row in rows
    ]
    metadata = train_head(settings, named, tmp_path / "head")
    assert metadata.targets == ("s", "l")
    assert len(metadata.temperature) == 2
    assert {len(values) for values in checkpoint(str(tmp_path / "head")).predict(named[:4])} == {2}


def test_rows_that_the_draft_cannot_read_are_left_out_and_refused_when_evaluated(
    settings: HeadSettings, rows: list[TrainingRow], tmp_path: Path, a_row: Rows
) -> None:
    long = a_row("long", question="Compute 1+1. " * 400)
    metadata = train_head(settings, [*rows, long], tmp_path / "head")
    assert metadata.rows["too_long"] == 1
    with pytest.raises(DataError, match="problem 'long', step 1: question and steps have more than 512 tokens"):
        checkpoint(str(tmp_path / "head")).predict([long])


def test_rows_of_one_class_or_of_no_split_and_a_full_folder_are_refused(
    settings: HeadSettings, rows: list[TrainingRow], tmp_path: Path, a_row: Rows
) -> None:
    with pytest.raises(DataError, match="needs both kinds"):
        train_head(settings, [a_row("p"), a_row("q")], tmp_path / "head")
    with pytest.raises(DataError, match="is in the split 'train'"):
        train_head(settings, [a_row("p", split="test")], tmp_path / "head")
    assert not (tmp_path / "head").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ConfigError, match="already exists"):
        train_head(settings, rows, tmp_path / "full")
