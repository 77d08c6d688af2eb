"""Write a trained checkpoint that any engine serves without a plug-in."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from arbiter.protocols.errors import ConfigError, RunError
from arbiter.training.complete_files import is_unfinished, together
from arbiter.training.metadata import NAME, CheckpointMetadata
from arbiter.training.silence import quiet

CHECKPOINTS = "checkpoints"
"""The folder, in that of a checkpoint, which holds the state of the training until it is finished."""

_INDEX, _WHOLE = "model.safetensors.index.json", "model.safetensors"
_WITH_BIAS = {"qwen2", "qwen3"}  # model types whose classifier has a bias in its head in sglang 0.5.23


def claim(out: Path, resume: bool) -> None:
    """Make the folder of a checkpoint.

    With ``resume`` it may hold a training (``CHECKPOINTS``) or a finished checkpoint. Without, it may hold only what a
    process left that was killed while it wrote a checkpoint. Raises ``ConfigError`` if it holds anything else,
    ``RunError`` if it cannot be made.
    """
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            training = (out / CHECKPOINTS).is_dir()
            if not resume and (training or not is_unfinished(out, NAME)):
                raise ConfigError(f"--out {out} already exists: name another folder, or continue with --resume")
            if resume and not training and not (out / NAME).is_file():
                raise ConfigError(f"--resume: --out {out} holds no training; give the folder of one")
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

    ``out`` has ``arbiter.json`` only if it has all of them. Raises ``RunError`` if a file cannot be written.
    """
    try:
        with together(out, NAME) as folder:
            with quiet():
                cast("Any", model).to(dtype).save_pretrained(folder)
            if model.config.model_type in _WITH_BIAS:
                _add_bias(folder, cast("int", model.config.num_labels), dtype)
            tokenizer.save_pretrained(folder)
            text = msgspec.json.format(msgspec.json.encode(metadata), indent=2)
            (folder / NAME).write_bytes(text + b"\n")
    except (OSError, SafetensorError) as error:
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
