"""A base checkpoint as a sequence classifier: its head, whatever it is, becomes the one that is trained.

A head says something good of a step with w = what it gives a right one, less what it gives a wrong one. The router's
classes are (not better, better), and the target writes a better step where the draft's is bad:

========================================  ==========================  ==========================
the checkpoint's head                     a router starts with        a process reward model with
========================================  ==========================  ==========================
one label: the value w                    [+w/2, -w/2]                w
two labels of tokens: bad b, good g       [g, b]                      g - b
a value head (``v_head``): w              [+w/2, -w/2]                w
two classes of a sequence: c₀, c₁         [c₀, c₁], as it is          c₀ - c₁
none (a language model)                   random numbers              random numbers
========================================  ==========================  ==========================

Biases are left out: a sequence classifier has none. (``converting`` keeps them, and the meaning of the labels.)
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

from arbiter.protocols.errors import BackendError
from arbiter.training.inference import folder_of
from arbiter.training.metadata import Labels
from arbiter.training.silence import quiet

VALUE_HEAD, WRAPPED = "v_head.summary.", "pretrained_model."


class Base(msgspec.Struct, frozen=True):
    """A classifier to be trained, its tokenizer, what its head was made from, and the precision it was stored in."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    head: str
    stored_as: torch.dtype

    @property
    def context(self) -> int:
        """How many tokens it reads at most."""
        return min(int(self.tokenizer.model_max_length), int(self.model.config.max_position_embeddings))


def open_base(name: str, labels: int, kind: Labels | Literal["value"]) -> Base:
    """The checkpoint ``name`` (a folder, a hub name, or ``pocket:ROLE``) with a head of ``labels`` labels, in float32.

    ``kind`` says what the labels mean (``expanded``). Raises ``BackendError`` if it cannot be loaded, or its head
    cannot be read as one of the above.
    """
    folder = folder_of(name)
    place = str(folder) if folder.is_dir() else name
    try:
        return _opened(place, labels, kind)
    except BackendError:
        raise
    except Exception as error:  # whatever a checkpoint, its tokenizer or the hub makes of it
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise BackendError(
            f"cannot load --base {name!r}: {reason}. Give a folder in Hugging Face format, a name that the hub knows, "
            "or pocket:prm"
        ) from error


def _opened(place: str, labels: int, kind: Labels | Literal["value"]) -> Base:
    with quiet():
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        stored_as = cast("torch.dtype | None", config.dtype) or torch.float32
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        backbone, head, told = _read(place, config)
        config.num_labels, config.pad_token_id = labels, padding(tokenizer, config)
        config.dtype = torch.float32  # transformers 5.2 takes it for the body, whatever from_config is asked for
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        model.base_model.load_state_dict(backbone)
        if head is not None:
            with torch.no_grad():
                model.score.weight.copy_(expanded(head, labels, kind))
    return Base(model, tokenizer, told, stored_as)


def expanded(pair: Tensor, labels: int, kind: Labels | Literal["value"]) -> Tensor:
    """The head of ``labels`` labels from rows (not better, better) of shape (2, hidden): shape (labels, hidden).

    A value is w, the first row less the second. Binary labels have the pair for each target, bins of Δ go evenly from
    +w/2 (the lowest) to -w/2, and each threshold of Δ has -w, whose sigmoid is P(Δ above it).
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
    """The token that a classifier takes for padding, and so reads the last one before it."""
    for found in (tokenizer.pad_token_id, config.pad_token_id, tokenizer.eos_token_id):
        if isinstance(found, int):
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.convert_ids_to_tokens(found)
            return found
    raise BackendError("the base's tokenizer has neither a padding token nor an end-of-text token")


def _read(place: str, config: Any) -> tuple[dict[str, Tensor], Tensor | None, str]:  # noqa: ANN401
    """The weights below the head, the head as rows (not better, better), and in words what it was."""
    kind = (config.architectures or ["none"])[0]
    labels = int(config.num_labels)
    names = names_of(place)
    if any(name.startswith(VALUE_HEAD) for name in names):
        return _with_value_head(place, names)
    if kind.endswith("ForSequenceClassification") and labels in (1, 2):
        model = _loaded(AutoModelForSequenceClassification, place)
        weight = model.score.weight.detach()
        told = "a value (1 label)" if labels == 1 else "two classes of a sequence"
        pair = torch.cat([weight, -weight]) / 2 if labels == 1 else weight
        return model.base_model.state_dict(), pair, told
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
    model, found = auto.from_pretrained(place, dtype=torch.float32, trust_remote_code=False, output_loading_info=True)
    if found["missing_keys"]:
        raise BackendError(f"--base {place!r} lacks the weights {', '.join(sorted(found['missing_keys']))}")
    return model


def names_of(place: str) -> dict[str, str]:
    """Where each weight of a checkpoint is: names to its safetensors files; empty if it has none."""
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
    """A file of the checkpoint on this machine, fetched from the hub if it is there; None if it has no such file."""
    return cached_file(
        place, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )


def _with_value_head(place: str, names: dict[str, str]) -> tuple[dict[str, Tensor], Tensor, str]:
    """Weights named ``pretrained_model.model.*`` and ``v_head.summary.*``, as Skywork-o1-Open-PRM has them."""
    weights: dict[str, Tensor] = {}
    for part in sorted(set(names.values())):
        with safe_open(cast("str", file_of(place, part)), "pt") as file:
            weights.update({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    prefix = f"{WRAPPED}model."
    backbone = {name.removeprefix(prefix): found for name, found in weights.items() if name.startswith(prefix)}
    value = weights[f"{VALUE_HEAD}weight"]
    return backbone, torch.cat([value, -value]) / 2, "a value head (v_head)"
