"""Convert published reward models and routers to sequence classifiers, which engines serve without a plug-in.

The score does not change, to the last bit of the head: it is the sigmoid of one label (a value), or the softmax
probability of class 1 of two labels. Class 1 keeps its meaning: a good step for a process reward model, a better step
of the target for a router. (``heads`` swaps the classes where a reward model becomes the base of a router.)
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import shutil
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

from arbiter.protocols.errors import BackendError, ConfigError, RunError
from arbiter.training.convert_check import converted_logits, original_logits, tensors_of
from arbiter.training.gguf_blocks import BlockLosses, losses_in
from arbiter.training.heads import VALUE_HEAD, WRAPPED, file_of, names_of, padding
from arbiter.training.inference import folder_of
from arbiter.training.metadata import NAME, Precision, read_metadata
from arbiter.training.silence import quiet

Form = Literal["value", "classes", "reward"]
LARGEST = 1e-3  # the largest difference of a logit, in float32

_BIASED = {"qwen2", "qwen3"}  # model types whose sequence classifier has a bias in its head in sglang 0.5.23
_REWARDS = {"qwen2": "Qwen2ForRewardModel", "qwen3": "Qwen3ForRewardModel"}  # two layers with a ReLU between them
_INDEX, _WHOLE = "model.safetensors.index.json", "model.safetensors"
_LABELS: dict[Form, int] = {"value": 1, "classes": 2, "reward": 1}


class Head(msgspec.Struct, frozen=True):
    """A linear head in float32: the weight of shape (labels, hidden), the bias, and a description of the original."""

    weight: Tensor
    bias: Tensor
    description: str

    @property
    def labels(self) -> int:
        return len(self.bias)


class Conversion(msgspec.Struct, frozen=True):
    """A conversion: the original head, the result, and the largest difference of their logits.

    ``as_gguf`` is what the weights would lose in GGUF's blocks of 8 bits.
    """

    head: str
    architecture: str
    labels: int
    bias: tuple[float, ...]
    difference: float
    as_gguf: BlockLosses


def convert(name: str, out: Path, form: Form | None = None, dtype: Precision = "auto") -> Conversion:
    """Write the checkpoint ``name`` (a folder or a hub name) into the folder ``out`` as a sequence classifier.

    ``form`` is ``value``, ``classes`` or ``reward`` (a value in the form of ``Qwen2ForRewardModel``), by default that
    of the original. ``dtype`` is the type of the weights below the head, by default the original's. Weights are copied
    from file to file, with one shard in memory at a time. Then the logits of the original and of the result are
    computed, one model after the other, and compared; the computation is in float32.

    Raises ``ConfigError`` if ``out`` exists or ``form`` does not fit, ``RunError`` if ``out`` cannot be written, and
    ``BackendError`` if the checkpoint cannot be read, its head cannot be kept, or the logits differ by more than
    ``LARGEST``.
    """
    if out.exists():
        raise ConfigError(f"--out {out} already exists: name another folder")
    part = out.with_name(f"{out.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir(parents=True)
        made = _converted(str(folder_of(name)) if folder_of(name).is_dir() else name, part, form, dtype)
        part.rename(out)
    except OSError as error:
        raise RunError(f"cannot write --out {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return made


def _converted(place: str, out: Path, form: Form | None, dtype: Precision) -> Conversion:
    try:
        with quiet():
            config: Any = AutoConfig.from_pretrained(place, trust_remote_code=False)
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
            names = names_of(place)
            head = _head(place, names, config)
    except BackendError:
        raise
    except Exception as error:  # a checkpoint, its tokenizer or the hub may raise anything
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise BackendError(
            f"cannot read {place!r}: {reason}. Give a folder in Hugging Face format, or a name of the hub"
        ) from error
    original = (config.architectures or ["none"])[0]
    chosen: Form = form or ("value" if head.labels == 1 else "classes")
    shaped = head if form is None else _shaped(head, chosen)
    precision = cast("torch.dtype", config.dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)
    tensors = _tensors(shaped, chosen, config.model_type)
    _write_weights(place, names, tensors, precision, out)
    _write_rest(place, config, tokenizer, chosen, shaped.labels, precision, out)
    before = original_logits(place, original, tokenizer, precision)
    after = converted_logits(out, tokenizer)
    difference = float((as_form(before, shaped.labels) - after).abs().max())
    if not difference <= LARGEST:
        raise BackendError(
            f"the converted model's logits differ from those of {place!r} by up to {difference:.2g}, more than "
            f"{LARGEST:g}: nothing was written"
        )
    bias, lost = tuple(shaped.bias.tolist()), losses_in(out)
    return Conversion(head.description, config.architectures[0], shaped.labels, bias, difference, lost)


def as_form(logits: Tensor, labels: int) -> Tensor:
    """Return logits of shape (…, n) as logits of ``labels`` labels with the same score."""
    if logits.shape[-1] == labels:
        return logits
    if labels == 1:
        return logits[..., 1:] - logits[..., :1]
    return torch.cat([-logits, logits], -1) / 2


def _shaped(head: Head, form: Form) -> Head:
    if head.labels not in (1, 2):
        raise ConfigError(f"--as {form}: a head of {head.labels} labels cannot change its form; leave --as out")
    labels = _LABELS[form]
    return Head(as_form(head.weight.T, labels).T, as_form(head.bias, labels), head.description)


def _head(place: str, names: dict[str, str], config: Any) -> Head:  # noqa: ANN401 - transformers' own
    """Return the head of the checkpoint. Raises ``BackendError`` if it has no linear head."""
    if not names:
        raise BackendError(f"{place!r} has no weights in the format safetensors")
    kind, found = (config.architectures or ["none"])[0], ""
    if f"{VALUE_HEAD}weight" in names:
        prefix, found = VALUE_HEAD, "a value head (v_head)"
    else:
        prefix = "score."
        if kind.endswith("ForTokenClassification"):
            found = "a head for the labels of tokens"
        elif kind.endswith("ForSequenceClassification"):
            found = "a head for the labels of a sequence"
    if not found or f"{prefix}weight" not in names:
        raise BackendError(
            f"{place!r} is a {kind} without a linear head; value-head reward models (v_head.summary), token "
            "classifiers and sequence classifiers can be converted (docs/how-to/convert-reward-models.md)"
        )
    tensors = tensors_of(place, prefix)
    weight = tensors[f"{prefix}weight"]
    if kind.endswith("ForTokenClassification") and len(weight) not in (1, 2):
        raise BackendError(f"{place!r} has {len(weight)} labels for each token; a score needs one or two")
    return Head(weight, tensors.get(f"{prefix}bias", torch.zeros(len(weight))), found)


def _tensors(head: Head, form: Form, model_type: str) -> dict[str, Tensor]:
    """Return the head under the names of the engine's class. Raises ``BackendError`` if that class has no bias but the
    head does, ``ConfigError`` if there is no such class.
    """
    if form == "reward":
        if model_type not in _REWARDS:
            raise ConfigError(f"--as reward: there is no such class for {model_type}, only for {', '.join(_REWARDS)}")
        hidden = head.weight.shape[-1]
        rows = torch.cat([head.weight, -head.weight, torch.zeros(hidden - 2, hidden)])
        joined = torch.zeros(1, hidden)
        joined[0, :2] = torch.tensor([1.0, -1.0])  # relu(wx) - relu(-wx) = wx
        layers = {"score.0.weight": rows, "score.0.bias": torch.zeros(hidden)}
        return {**layers, "score.2.weight": joined, "score.2.bias": head.bias}
    if model_type in _BIASED:
        return {"score.weight": head.weight, "score.bias": head.bias}
    if head.bias.any():
        raise BackendError(
            f"the head has a bias ({', '.join(f'{each:.4g}' for each in head.bias.tolist())}), and the sequence "
            f"classifier of {model_type} has none, in sglang 0.5.23 and in transformers: without it the scores would "
            "change. Serve the original with the plug-in that it came with, in the dialect token-embeddings"
        )
    return {"score.weight": head.weight}


def _write_weights(place: str, names: dict[str, str], head: dict[str, Tensor], dtype: torch.dtype, out: Path) -> None:
    """Write the weights shard by shard. The head is in the last shard, in float32, as it was computed."""
    shards = sorted(set(names.values()))
    files: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        written = _WHOLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        weights = {} if shard != shards[-1] else {name: each.contiguous() for name, each in head.items()}
        with safe_open(cast("str", file_of(place, shard)), "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                bare = name.removeprefix(WRAPPED)
                if bare.startswith("model."):
                    tensor: Tensor = file.get_tensor(name)
                    weights[bare] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        save_file(weights, out / written, metadata={"format": "pt"})
        files |= dict.fromkeys(weights, written)
    if len(shards) > 1:
        (out / _INDEX).write_bytes(msgspec.json.encode({"metadata": {}, "weight_map": files}))


def _write_rest(
    place: str,
    config: Any,  # noqa: ANN401 - transformers' own
    tokenizer: PreTrainedTokenizerBase,
    form: Form,
    labels: int,
    dtype: torch.dtype,
    out: Path,
) -> None:
    """Write the configuration, the tokenizer, and ``arbiter.json`` if the original has one."""
    kind = config.model_type
    if kind not in CLASSIFIERS:
        raise BackendError(f"{place!r} is of the type {kind}, which has no sequence classifier")
    config.num_labels, config.pad_token_id = labels, padding(tokenizer, config)
    config.architectures = [_REWARDS[kind] if form == "reward" else CLASSIFIERS[kind]]
    config.dtype = dtype
    for key in ("auto_map", "summary_dropout_prob"):
        if hasattr(config, key):
            delattr(config, key)
    config.save_pretrained(out)
    tokenizer.save_pretrained(out)
    metadata = read_metadata(Path(place))
    if metadata is not None:
        kept = metadata.labels if labels > 2 else "binary" if labels == 2 else "value"
        (out / NAME).write_bytes(
            msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(metadata, labels=kept)))
        )
