"""Which configurations are of the Llama family, and the shape that each says."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and safetensors are typed in part)

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from arbiter.backends.in_process.checkpoint_files import (
    INDEX,
    WHOLE,
    checkpoint_folder,
    llama_shape,
    read_json,
    read_weights,
    weights_of,
)
from arbiter.backends.in_process.llama import LlamaShape, Rope
from arbiter.pocket import MODELS

LLAMA_3: dict[str, Any] = {  # the fields of Llama 3.2 1B that matter
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "vocab_size": 128256,
}
QWEN_2: dict[str, Any] = {  # the fields of Qwen2.5-Math 1.5B that matter
    "architectures": ["Qwen2ForCausalLM"],
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "max_position_embeddings": 4096,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def pocket(role: str) -> dict[str, Any]:
    return json.loads((MODELS / role / "config.json").read_text(encoding="utf-8"))


def shape_of(config: dict[str, Any]) -> LlamaShape:
    shape = llama_shape(config, "generator")
    assert shape is not None
    return shape


@pytest.mark.parametrize(
    ("role", "kind", "labels"),
    [("draft", "generator", 0), ("target", "generator", 0), ("router", "scorer", 2), ("prm", "scorer", 1)],
)
def test_the_pocket_models_are_of_the_family(role: str, kind: Any, labels: int) -> None:
    config = pocket(role)
    shape = llama_shape(config, kind)
    assert shape is not None
    assert (shape.num_labels, shape.has_bias, shape.rope) == (labels, False, Rope())
    assert (shape.hidden_size, shape.num_hidden_layers) == (config["hidden_size"], config["num_hidden_layers"])


@pytest.mark.parametrize(("role", "kind"), [("draft", "scorer"), ("router", "generator")])
def test_a_checkpoint_serves_only_as_what_it_is(role: str, kind: Any) -> None:
    assert llama_shape(pocket(role), kind) is None


def test_llama_3_has_scaled_positions_and_no_biases() -> None:
    assert shape_of(LLAMA_3) == LlamaShape(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=128256,
        max_position_embeddings=131072,
        rms_norm_eps=1e-05,
        rope=Rope("llama3", 500000.0, 32.0, 1.0, 4.0, 8192),
        tie_word_embeddings=True,
    )


def test_qwen_2_has_biases_and_the_head_size_follows_from_the_number_of_heads() -> None:
    shape = shape_of(QWEN_2)
    assert (shape.has_bias, shape.head_dim, shape.num_key_value_heads, shape.rope) == (True, 128, 2, Rope())
    assert shape.weights()["model.layers.27.self_attn.k_proj.bias"] == (256,)


def test_a_classifier_without_named_labels_has_two() -> None:
    config = {**QWEN_2, "architectures": ["Qwen2ForSequenceClassification"]}
    named = {**config, "id2label": {"0": "wrong", "1": "unclear", "2": "right"}}
    shapes = [llama_shape(given, "scorer") for given in (config, named)]
    assert [shape and shape.num_labels for shape in shapes] == [2, 3]


@pytest.mark.parametrize(
    ("fields", "rope"),
    [
        ({}, Rope()),
        ({"rope_theta": 5e5}, Rope(rope_theta=5e5)),
        ({"rope_theta": 5e5, "rope_scaling": None}, Rope(rope_theta=5e5)),
        ({"rope_scaling": {"type": "default"}}, Rope()),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, Rope(rope_theta=5e5)),
        ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}}, Rope(rope_theta=5e5)),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", "factor": 8.0}},
            Rope("llama3", rope_theta=5e5, factor=8.0),
        ),
    ],
)
def test_older_and_newer_files_say_how_positions_are_encoded(fields: dict[str, Any], rope: Rope) -> None:
    plain = {name: value for name, value in LLAMA_3.items() if not name.startswith("rope")}
    assert shape_of({**plain, **fields}).rope == rope


@pytest.mark.parametrize(
    "fields",
    [
        {"architectures": ["MistralForCausalLM"], "model_type": "mistral"},
        {"architectures": ["MistralForCausalLM"]},
        {"architectures": None},
        {"architectures": ["LlamaForCausalLM", "LlamaForSequenceClassification"]},
        {"model_type": "llama4"},
        {"auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"use_sliding_window": True},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"quantization_config": {"quant_method": "gptq"}},
        {"partial_rotary_factor": 0.5},
        {"rope_parameters": {"partial_rotary_factor": 0.5}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
        {"rope_scaling": {"rope_type": "llama3", "factor": "32"}},
        {"hidden_size": None, "head_dim": 64},
        {"rms_norm_eps": None},
        {"vocab_size": "many"},
    ],
)
def test_a_setting_that_the_forward_pass_does_not_know_leaves_the_model_to_transformers(fields: dict[str, Any]) -> None:
    assert llama_shape({**LLAMA_3, **fields}, "generator") is None


def test_a_configuration_without_a_size_leaves_the_model_to_transformers() -> None:
    for name in ("hidden_size", "vocab_size", "num_hidden_layers", "rms_norm_eps"):
        assert llama_shape({field: value for field, value in LLAMA_3.items() if field != name}, "generator") is None
    assert llama_shape({}, "generator") is None


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{"])
def test_a_file_that_is_missing_or_no_object_reads_as_empty(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    assert read_json(tmp_path, "config.json") == {}


def test_weights_are_found_in_one_file_and_in_several(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    weights = {"a": torch.ones(2), "b": torch.zeros(3)}
    for folder in (whole, parts):
        folder.mkdir()
    save_file(weights, whole / WHOLE)
    names = {"a": "1.safetensors", "b": "2.safetensors"}
    for name, file in names.items():
        save_file({name: weights[name]}, parts / file)
    (parts / INDEX).write_text(json.dumps({"weight_map": names}), encoding="utf-8")
    for folder in (whole, parts):
        files = weights_of(folder, str(folder))
        assert files is not None
        found = read_weights(files, ["a", "b"], torch.device("cpu"), torch.float16)
        assert {name: values.tolist() for name, values in found.items()} == {"a": [1.0, 1.0], "b": [0.0, 0.0, 0.0]}
        assert {values.dtype for values in found.values()} == {torch.float16}


def test_a_folder_without_safetensors_has_no_weights(tmp_path: Path) -> None:
    assert weights_of(tmp_path, str(tmp_path)) is None
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "1.safetensors"}}), encoding="utf-8")
    assert weights_of(tmp_path, str(tmp_path)) is None


def test_a_folder_is_its_own_checkpoint(tmp_path: Path) -> None:
    assert checkpoint_folder(str(tmp_path)) == tmp_path
