"""Load a checkpoint with transformers, by default on the GPU if there is one. Code of the checkpoint is never run."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
import transformers
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.hub import cached_file

from arbiter.backends.in_process.model_loading import cannot_load, device_of, has_bias, lacks_weights
from arbiter.pocket import resolved

_BIAS = "score.bias"
_AUTO: dict[str, Any] = {"generator": AutoModelForCausalLM, "scorer": AutoModelForSequenceClassification}


class Checkpoint(msgspec.Struct, frozen=True):
    """A model on its device, its tokenizer, and the size of its context in tokens."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context: int

    @property
    def device(self) -> torch.device:
        return self.model.device


def load(name: str, kind: str, device: str = "auto", dtype: str = "auto") -> Checkpoint:
    """Load the ``generator`` or ``scorer`` called ``name``.

    ``name`` is a folder, a hub name, or ``pocket:ROLE``. ``device`` is ``auto`` or torch's name of a device. ``dtype``
    is ``auto`` (float32 on a CPU, the checkpoint's own elsewhere) or torch's name of a type. Raises ``BackendError``
    if the model cannot be loaded or cannot serve as ``kind``.
    """
    path = resolved(name)
    where = device_of(device)
    precision = ("float32" if where == "cpu" else "auto") if dtype == "auto" else dtype
    try:
        with _no_progress_bar():
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            model, found = _AUTO[kind].from_pretrained(
                path, dtype=precision, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
            model = model.to(where).eval()
    except Exception as error:  # a checkpoint, its tokenizer or the device may raise anything
        raise cannot_load(name, kind, where, error) from error
    if found["missing_keys"]:
        raise lacks_weights(name, kind, found["missing_keys"])
    if _BIAS in found["unexpected_keys"] and _is_biased(path):
        raise has_bias(name)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:  # a classifier needs it to find the last token that is not padding
        model.config.pad_token_id = tokenizer.pad_token_id
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return Checkpoint(name, model, tokenizer, int(most or tokenizer.model_max_length))


def _is_biased(path: str) -> bool:
    """Return whether a classifier's head has a non-zero bias. Checkpoints for sglang have one, often all zeros."""
    index = cached_file(path, "model.safetensors.index.json", _raise_exceptions_for_missing_entries=False)
    parts: dict[str, str] = msgspec.json.decode(Path(index).read_bytes())["weight_map"] if index else {}
    whole = cached_file(path, parts.get(_BIAS, "model.safetensors"))
    with safe_open(whole, "pt") as file:
        return bool(file.get_tensor(_BIAS).any())


@contextmanager
def _no_progress_bar() -> Generator[None]:
    """Hide the loader's progress bar, and restore the setting at the end."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()
