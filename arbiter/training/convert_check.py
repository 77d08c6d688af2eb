"""Compute the logits of a checkpoint and of its conversion, each from its own files, to compare them."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerBase,
)

from arbiter.protocols.errors import BackendError
from arbiter.training.heads import VALUE_HEAD, WRAPPED, file_of, names_of
from arbiter.training.silence import quiet

TEXTS = (
    "Compute 1+1.\n1+1=2.\n\n",
    "What is 7 times 8?\nModel 0: 7 times 8 is 54.\n\n",
    "Solve x^2 = 9.\nBoth 3 and -3 are roots.\n\nSo x = 3 or x = -3.\n\n",
    "A shop sells 4 pens for 6 dollars. How much are 10 pens?\nA pen costs 1.5 dollars, and 10 of them 15.\n\n",
)
"""The texts that both read: a question and one or two steps."""


@torch.inference_mode()
def original_logits(place: str, kind: str, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype) -> Tensor:
    """Return the original checkpoint's logits at the last token of each text, in float32: shape (texts, labels).

    The weights below its head are rounded to ``dtype``. Raises ``BackendError`` if it cannot be loaded.
    """
    prefix = VALUE_HEAD if f"{VALUE_HEAD}weight" in names_of(place) else "score."
    head = tensors_of(place, prefix)
    with quiet():
        if prefix == VALUE_HEAD:
            model = _loaded(AutoModel, place, dtype, key_mapping={f"^{WRAPPED}model\\.": ""})
        elif kind.endswith("ForTokenClassification"):
            model = _loaded(AutoModelForTokenClassification, place, dtype).base_model
        else:
            model = _loaded(AutoModelForSequenceClassification, place, dtype).base_model
        return _last(tokenizer, lambda ids: _linear(model(ids).last_hidden_state[:, -1], head, prefix))


@torch.inference_mode()
def converted_logits(out: Path, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Return the same logits from the converted files in ``out``, computed as an engine does."""
    head = tensors_of(str(out), "score.")
    with quiet():
        if "score.weight" in head:
            model = _loaded(AutoModelForSequenceClassification, str(out), torch.float32)
            bias = head.get("score.bias", torch.zeros(()))  # transformers ignores it
            return _last(tokenizer, lambda ids: model(ids).logits + bias)
        model = _loaded(AutoModel, str(out), torch.float32)

        def reward(ids: Tensor) -> Tensor:
            inner = _linear(model(ids).last_hidden_state[:, -1], head, "score.0.")
            return _linear(torch.relu(inner), head, "score.2.")

        return _last(tokenizer, reward)


def tensors_of(place: str, prefix: str) -> dict[str, Tensor]:
    """Return the weights of the checkpoint whose names begin with ``prefix``, in float32."""
    found: dict[str, Tensor] = {}
    for name, part in names_of(place).items():
        if name.startswith(prefix):
            with safe_open(cast("str", file_of(place, part)), "pt") as file:
                found[name] = file.get_tensor(name).float()
    return found


def _linear(hidden: Tensor, weights: dict[str, Tensor], prefix: str) -> Tensor:
    return hidden @ weights[f"{prefix}weight"].T + weights.get(f"{prefix}bias", torch.zeros(()))


def _last(tokenizer: PreTrainedTokenizerBase, read: Callable[[Tensor], Tensor]) -> Tensor:
    rows = [read(torch.tensor([tokenizer(text)["input_ids"]])) for text in TEXTS]
    return torch.cat(rows).float()


def _loaded(auto: Any, place: str, dtype: torch.dtype, **options: Any) -> Any:  # noqa: ANN401 - transformers' own
    try:
        model, found = auto.from_pretrained(
            place, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as error:  # a checkpoint may raise anything
        raise BackendError(f"cannot load {place!r} to compare: {str(error).strip().partition(chr(10))[0]}") from error
    if found["missing_keys"]:
        raise BackendError(f"{place!r} lacks the weights {', '.join(sorted(found['missing_keys']))}")
    return model.float().eval()
