"""Write a trained checkpoint that any engine serves without a plug-in."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from arbiter.protocols.errors import ConfigError, RunError
from arbiter.training.metadata import NAME, CheckpointMetadata
from arbiter.training.silence import quiet

_INDEX, _WHOLE = "model.safetensors.index.json", "model.safetensors"
_WITH_BIAS = {"qwen2", "qwen3"}  # model types whose classifier has a bias in its head in sglang 0.5.23


def claim(out: Path, resume: bool) -> None:
    """Make the folder of a checkpoint.

    Raises ``ConfigError`` if it is not empty and ``resume`` is not set, ``RunError`` if it cannot be made.
    """
    try:
        if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"--out {out} already exists: name another folder, or continue with --resume")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write --out {out}: {error.strerror}") from error


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    metadata: CheckpointMetadata,
    dtype: torch.dtype,
    out: Path,
) -> None:
    """Write weights (safetensors, in ``dtype``), configuration, tokenizer and ``arbiter.json`` into ``out``.

    Raises ``RunError`` if a file cannot be written.
    """
    try:
        with quiet():
            cast("Any", model).to(dtype).save_pretrained(out)
        if model.config.model_type in _WITH_BIAS:
            _add_bias(out, cast("int", model.config.num_labels), dtype)
        tokenizer.save_pretrained(out)
        text = msgspec.json.format(msgspec.json.encode(metadata), indent=2)
        (out / NAME).write_bytes(text + b"\n")
    except OSError as error:
        raise RunError(f"cannot write the checkpoint into {out}: {error}") from error


def _add_bias(out: Path, labels: int, dtype: torch.dtype) -> None:
    """Add a bias of zeros to the head. Without it, an engine whose head has a bias would serve random numbers."""
    index = out / _INDEX
    tree: dict[str, Any] | None = msgspec.json.decode(index.read_bytes()) if index.is_file() else None
    part = out / (tree["weight_map"]["score.weight"] if tree else _WHOLE)
    weights: dict[str, Tensor] = load_file(part)
    weights["score.bias"] = torch.zeros(labels, dtype=dtype)
    save_file(weights, part, metadata={"format": "pt"})
    if tree:
        tree["weight_map"]["score.bias"] = part.name
        index.write_bytes(msgspec.json.format(msgspec.json.encode(tree)))
