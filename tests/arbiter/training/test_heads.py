"""Each kind of base becomes a classifier whose first answers keep their meaning."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from arbiter.protocols.errors import BackendError
from arbiter.training.heads import Base, expanded, open_base
from arbiter.training.inference import estimates

IDS = torch.tensor([[5, 9, 30, 31, 12]])


@torch.inference_mode()
def yhat(base: Base) -> Tensor:
    return estimates(base.model.eval()(IDS).logits)[0]  # pyright: ignore[reportCallIssue]


@torch.inference_mode()
def logits(auto: Any, folder: Path) -> Tensor:
    return auto.from_pretrained(folder, dtype=torch.float32).eval()(IDS).logits[0]


def test_a_value_is_read_as_its_negative(base: Callable[..., Path]) -> None:
    folder = base()
    value = logits(AutoModelForSequenceClassification, folder)
    assert torch.allclose(yhat(open_base(str(folder), 2, "binary")), torch.sigmoid(-value), atol=1e-6)
    assert torch.allclose(yhat(open_base(str(folder), 1, "value")), torch.sigmoid(value), atol=1e-6)
    assert torch.allclose(yhat(open_base(str(folder), 6, "binary")), torch.sigmoid(-value).repeat(3), atol=1e-6)


def test_token_labels_are_bad_and_good(base: Callable[..., Path]) -> None:
    folder = base("ForTokenClassification", 2)
    bad = torch.softmax(logits(AutoModelForTokenClassification, folder)[-1], -1)[0]
    assert torch.allclose(yhat(open_base(str(folder), 2, "binary")), bad, atol=1e-6)


def test_two_classes_of_a_sequence_stay_as_they_are(base: Callable[..., Path]) -> None:
    folder = base(labels=2)
    opened = open_base(str(folder), 2, "binary")
    model: Any = opened.model
    assert torch.equal(model.score.weight, load_file(folder / "model.safetensors")["score.weight"])


@pytest.mark.parametrize("sharded", [False, True])
def test_a_value_head_over_a_language_model_is_a_value(
    base: Callable[..., Path], tmp_path: Path, sharded: bool
) -> None:
    folder = base(family="qwen2")
    value = logits(AutoModelForSequenceClassification, folder)
    weights = load_file(folder / "model.safetensors")
    renamed = {f"pretrained_model.{name}": found for name, found in weights.items() if name != "score.weight"}
    renamed["pretrained_model.lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    head = {"v_head.summary.weight": weights["score.weight"], "v_head.summary.bias": torch.zeros(1)}
    shutil.copytree(folder, tmp_path / "skywork", ignore=shutil.ignore_patterns("*.safetensors"))
    config = msgspec.json.decode((folder / "config.json").read_bytes())
    config["architectures"] = ["Qwen2ForPrmModel"]
    (tmp_path / "skywork" / "config.json").write_bytes(msgspec.json.encode(config))
    if sharded:
        save_file(renamed, tmp_path / "skywork" / "model-1.safetensors")
        save_file(head, tmp_path / "skywork" / "model-2.safetensors")
        places = {**dict.fromkeys(renamed, "model-1.safetensors"), **dict.fromkeys(head, "model-2.safetensors")}
        index = {"metadata": {}, "weight_map": places}
        (tmp_path / "skywork" / "model.safetensors.index.json").write_bytes(msgspec.json.encode(index))
    else:
        save_file({**renamed, **head}, tmp_path / "skywork" / "model.safetensors")
    opened = open_base(str(tmp_path / "skywork"), 2, "binary")
    assert torch.allclose(yhat(opened), torch.sigmoid(-value), atol=1e-6)
    assert "value head" in opened.head


def test_a_language_model_gets_a_random_head_and_it_is_told(base: Callable[..., Path]) -> None:
    folder = base("ForCausalLM")
    opened = open_base(str(folder), 2, "binary")
    assert "random" in opened.head
    kept = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(opened.model.get_input_embeddings().weight, kept)  # pyright: ignore[reportArgumentType]


def test_a_head_of_bins_falls_as_the_value_rises_and_thresholds_are_its_negative() -> None:
    pair = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert expanded(pair, 4, "4-class")[:, 0].tolist() == pytest.approx([1.0, 1 / 3, -1 / 3, -1.0])
    assert expanded(pair, 3, "ordinal")[:, 0].tolist() == [-2.0, -2.0, -2.0]


def test_a_base_of_another_kind_is_refused(base: Callable[..., Path]) -> None:
    with pytest.raises(BackendError, match="with 5 labels"):
        open_base(str(base(labels=5)), 2, "binary")
