"""Open a base checkpoint as a sequence classifier: its head is converted to the head to train.

In the table, w is the value that a head gives a step: higher means a better step. The router's classes are (not better,
better). The target is likely to write a better step where the draft's is bad, so the signs are:

========================================  ==========================  ==========================
the checkpoint's head                     a router starts with        a process reward model with
========================================  ==========================  ==========================
one label: the value w                    [+w/2, -w/2]                w
two labels of tokens: bad b, good g       [g, b]                      g - b
a value head (``v_head``): w              [+w/2, -w/2]                w
two classes of a sequence: c₀, c₁         [c₀, c₁], as it is          c₀ - c₁
none (a language model)                   random numbers              random numbers
========================================  ==========================  ==========================

Biases are dropped: a sequence classifier has none. (``convert`` keeps them, and the meaning of the labels.)
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.hub import cached_file

from arbiter.backends.in_process.model_loading import reason_of
from arbiter.protocols.errors import BackendError
from arbiter.training.inference import folder_of
from arbiter.training.metadata import Labels
from arbiter.training.silence import quiet

VALUE_HEAD, WRAPPED = "v_head.summary.", "pretrained_model."


class Base(msgspec.Struct, frozen=True):
    """A classifier to train, its tokenizer, the origin of its head in words, and the precision it is stored in."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    head: str
    stored_as: torch.dtype

    @property
    def context(self) -> int:
        """Return the most tokens that it can read."""
        return min(int(self.tokenizer.model_max_length), int(self.model.config.max_position_embeddings))


def open_base(name: str, labels: int, kind: Labels | Literal["value"]) -> Base:
    """Open the checkpoint ``name`` (a folder, a hub name, or ``pocket:ROLE``) with a head of ``labels`` labels.

    The model is in float32. ``kind`` is the meaning of the labels (see ``expanded``). Raises ``BackendError`` if the
    checkpoint cannot be loaded, or its head is none of the kinds above.
    """
    folder = folder_of(name)
    place = str(folder) if folder.is_dir() else name
    try:
        return _opened(place, labels, kind)
    except BackendError:
        raise
    except Exception as error:  # a checkpoint, its tokenizer or the hub may raise anything
        reason = reason_of(error)
        raise BackendError(
            f"cannot load --base {name!r}: {reason}. Give a folder in Hugging Face format, a name of the hub, or "
            "pocket:prm"
        ) from error


def _opened(place: str, labels: int, kind: Labels | Literal["value"]) -> Base:
    with quiet():
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        stored_as = cast("torch.dtype | None", config.dtype) or torch.float32
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        backbone, head, description = _read(place, config)
        config.num_labels, config.pad_token_id = labels, padding(tokenizer, config)
        config.dtype = torch.float32  # transformers 5.2 uses it for the body, whatever dtype from_config gets
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        model.base_model.load_state_dict(backbone)
        if head is not None:
            with torch.no_grad():
                model.score.weight.copy_(expanded(head, labels, kind))
    return Base(model, tokenizer, description, stored_as)


def expanded(pair: Tensor, labels: int, kind: Labels | Literal["value"]) -> Tensor:
    """Expand rows (not better, better) of shape (2, hidden) to a head of ``labels`` labels: shape (labels, hidden).

    - ``value``: w, the first row minus the second.
    - ``binary``: the pair, once for each target.
    - ``4-class``, ``10-class`` (bins of Δ): evenly spaced from +w/2 (the lowest bin) to -w/2.
    - ``ordinal`` (thresholds of Δ): -w for each threshold; its sigmoid is the probability that Δ is above it.
    """
    value = pair[:1] - pair[1:]
    match kind:
        case "value":
            return value
        case "binary":
            return pair.repeat(labels // 2, 1)
        case "ordinal":
            return -value.repeat(labels, 1)
        case "4-class" | "10-class":
            return torch.linspace(0.5, -0.5, labels)[:, None] * value


def padding(tokenizer: PreTrainedTokenizerBase, config: Any) -> int:  # noqa: ANN401
    """Return the padding token, which a classifier needs to find the last token of a text.

    Raises ``BackendError`` if there is neither a padding token nor an end-of-text token.
    """
    for found in (tokenizer.pad_token_id, config.pad_token_id, tokenizer.eos_token_id):
        if isinstance(found, int):
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.convert_ids_to_tokens(found)
            return found
    raise BackendError("the base's tokenizer has neither a padding token nor an end-of-text token")


def _read(place: str, config: Any) -> tuple[dict[str, Tensor], Tensor | None, str]:  # noqa: ANN401
    """Return the weights below the head, the head as rows (not better, better), and its origin in words."""
    kind = (config.architectures or ["none"])[0]
    labels = int(config.num_labels)
    names = names_of(place)
    if any(name.startswith(VALUE_HEAD) for name in names):
        return _with_value_head(place, names)
    if kind.endswith("ForSequenceClassification") and labels in (1, 2):
        model = _loaded(AutoModelForSequenceClassification, place)
        weight = model.score.weight.detach()
        description = "a value (1 label)" if labels == 1 else "two classes of a sequence"
        pair = torch.cat([weight, -weight]) / 2 if labels == 1 else weight
        return model.base_model.state_dict(), pair, description
    if kind.endswith("ForTokenClassification") and labels == 2:
        model = _loaded(AutoModelForTokenClassification, place)
        return model.base_model.state_dict(), model.score.weight.detach().flip(0), "two labels of tokens (bad, good)"
    if kind.endswith("ForCausalLM"):
        return _loaded(AutoModelForCausalLM, place).base_model.state_dict(), None, "random numbers (a language model)"
    raise BackendError(
        f"--base {place!r} is a {kind} with {labels} labels; a base is a sequence classifier of one or two labels, a "
        "token classifier of two, a value-head reward model, or a language model"
    )


def _loaded(auto: Any, place: str) -> Any:  # noqa: ANN401 - transformers' own classes
    model, found = auto.from_pretrained(
        place, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, output_loading_info=True
    )
    if found["missing_keys"]:
        raise BackendError(f"--base {place!r} lacks the weights {', '.join(sorted(found['missing_keys']))}")
    return model


def names_of(place: str) -> dict[str, str]:
    """Map the name of each weight of a checkpoint to its safetensors file; empty if there is no such file."""
    index = file_of(place, "model.safetensors.index.json")
    if index is not None:
        names: dict[str, str] = msgspec.json.decode(Path(index).read_bytes())["weight_map"]
    else:
        whole = file_of(place, "model.safetensors")
        if whole is None:
            return {}
        with safe_open(whole, "pt") as file:
            names = dict.fromkeys(file.keys(), "model.safetensors")
    return names


def file_of(place: str, name: str) -> str | None:
    """Return the path of a file of the checkpoint, fetched from the hub if needed; None if there is no such file."""
    return cached_file(
        place, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )


def _with_value_head(place: str, names: dict[str, str]) -> tuple[dict[str, Tensor], Tensor, str]:
    """Read weights named ``pretrained_model.model.*`` and ``v_head.summary.*``, as in Skywork-o1-Open-PRM."""
    weights: dict[str, Tensor] = {}
    for part in sorted(set(names.values())):
        with safe_open(cast("str", file_of(place, part)), "pt") as file:
            weights.update({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    prefix = f"{WRAPPED}model."
    backbone = {name.removeprefix(prefix): found for name, found in weights.items() if name.startswith(prefix)}
    value = weights[f"{VALUE_HEAD}weight"]
    return backbone, torch.cat([value, -value]) / 2, "a value head (v_head)"
