"""Read the files of a checkpoint: its shape and weights, from a folder or the hub. Code of the checkpoint is never run.

A checkpoint that is not of the Llama family, or has a setting that ``llama.py`` does not know, has no shape here:
transformers loads it.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch, safetensors and huggingface_hub are typed in part)

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from safetensors import safe_open
from torch import Tensor

from arbiter.backends.in_process.llama import LlamaShape, Rope

Kind = Literal["generator", "scorer"]
INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
_ARCHITECTURES: dict[str, dict[Kind, str]] = {
    "llama": {"generator": "LlamaForCausalLM", "scorer": "LlamaForSequenceClassification"},
    "qwen2": {"generator": "Qwen2ForCausalLM", "scorer": "Qwen2ForSequenceClassification"},
}
_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    INDEX,
)


def checkpoint_folder(name: str) -> Path | None:
    """Return the folder with the files of checkpoint ``name``, a folder or a hub name; None if there is none.

    From the hub, only the small files are fetched here. ``weights_of`` fetches the weights.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import tqdm

    class NoBar(tqdm):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **{**options, "disable": True})

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES), tqdm_class=NoBar))
    except Exception:  # the hub may raise anything; transformers then reports what is wrong
        return None


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the contents of a JSON file; empty if there is no such file, or it is no JSON object."""
    try:
        return msgspec.json.decode((folder / name).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError):
        return {}


def llama_shape(config: Mapping[str, Any], kind: Kind) -> LlamaShape | None:
    """Return the shape in a ``config.json`` whose architecture is of the Llama family and serves as ``kind``."""
    family = str(config.get("model_type"))
    architecture = _ARCHITECTURES.get(family, {}).get(kind)
    if config.get("architectures") != [architecture] or _unknown(config, family):
        return None
    rope = _rope(config)
    if rope is None:
        return None
    heads, hidden = config.get("num_attention_heads", 32), config.get("hidden_size", 4096)
    try:
        return msgspec.convert(
            {
                **config,
                "head_dim": config.get("head_dim") or hidden // heads,
                "num_key_value_heads": config.get("num_key_value_heads") or heads,
                "rope": rope,
                "has_bias": family == "qwen2",
                "num_labels": _labels(config) if kind == "scorer" else 0,
            },
            LlamaShape,
        )
    except msgspec.ValidationError:
        return None


def _labels(config: Mapping[str, Any]) -> int:
    return len(config.get("id2label") or ()) or int(config.get("num_labels", 2))


def _unknown(config: Mapping[str, Any], family: str) -> bool:
    """Return whether a setting changes the forward pass in a way that ``llama.py`` does not know."""
    return bool(
        config.get("hidden_act", "silu") != "silu"
        or (family == "llama" and config.get("attention_bias"))
        or config.get("mlp_bias")
        or config.get("use_sliding_window")
        or config.get("quantization_config")
        or config.get("auto_map")
        or any(kind != "full_attention" for kind in config.get("layer_types") or ())
    )


def _rope(config: Mapping[str, Any]) -> Rope | None:
    """Return how positions are encoded: ``rope_parameters``, or ``rope_theta`` and ``rope_scaling`` in older files."""
    given: dict[str, Any] = {name: config[name] for name in ("rope_theta", "partial_rotary_factor") if name in config}
    given |= config.get("rope_scaling") or {}
    given |= config.get("rope_parameters") or {}
    given["rope_type"] = given.get("rope_type") or given.get("type") or "default"
    if given.get("partial_rotary_factor", 1.0) != 1.0:
        return None
    try:
        return msgspec.convert(given, Rope)
    except msgspec.ValidationError:
        return None


def weights_of(folder: Path, name: str) -> dict[str, Path] | None:
    """Map the name of each weight to the safetensors file that has it; None if there are no such files."""
    index = read_json(folder, INDEX).get("weight_map")
    files: dict[str, str] = dict.fromkeys((WHOLE,), WHOLE) if index is None else index
    if not all((folder / file).is_file() for file in set(files.values())) and not Path(name).is_dir():
        from huggingface_hub import snapshot_download

        snapshot_download(name, allow_patterns=sorted(set(files.values())))
    if not all((folder / file).is_file() for file in set(files.values())):
        return None
    if index is not None:
        return {weight: folder / file for weight, file in files.items()}
    with safe_open(folder / WHOLE, "pt") as file:
        return dict.fromkeys(file.keys(), folder / WHOLE)


def read_weights(
    files: Mapping[str, Path], names: Iterable[str], device: torch.device, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """Return the named weights on ``device``, as ``dtype`` (None: as they are stored)."""
    by_file: dict[Path, list[str]] = {}
    for name in names:
        by_file.setdefault(files[name], []).append(name)
    found: dict[str, Tensor] = {}
    for path, of_file in by_file.items():
        with safe_open(path, "pt") as file:
            for name in of_file:
                found[name] = file.get_tensor(name).to(device, dtype)
    return found
