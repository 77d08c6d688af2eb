"""Load a model for the engine: the Llama family without transformers, any other family with it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and safetensors are typed in part)

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import msgspec
import torch

from arbiter.backends.in_process.checkpoint_files import (
    Kind,
    checkpoint_folder,
    llama_shape,
    read_json,
    read_weights,
    weights_of,
)
from arbiter.backends.in_process.llama import LlamaModel, LlamaShape
from arbiter.backends.in_process.sequence_model import SequenceModel
from arbiter.backends.token_texts import TokenTexts, TransformersTokenTexts, fast_token_texts
from arbiter.pocket import resolved
from arbiter.protocols.errors import BackendError, ContextTooLongError

# Each operation of torch hands over the interpreter lock. So passes of several models side by side on one CPU take a
# sixth more CPU time than in turn, and a sixth less time on two idle cores. On one GPU, operations run one after
# another anyway.
_TURNS = defaultdict[str, threading.Lock](threading.Lock)
_ON_CPU = 2**30  # the default of cache_bytes on a CPU
_SHARE = 4  # the default on a GPU is this fraction of its free memory
_BIAS, _HEAD = "score.bias", "lm_head.weight"


class Loaded(msgspec.Struct, frozen=True):
    """A model, its tokenizer, and what else the configuration and the checkpoint say.

    ``ends`` are the tokens that end an answer. ``labels`` is the number of a classifier's labels, 0 for a generator.
    Keys and values may take ``cache_bytes``. The passes of models that share a device take their ``turn``.
    """

    name: str
    model: SequenceModel
    texts: TokenTexts
    ends: frozenset[int]
    labels: int
    cache_bytes: int
    turn: AbstractContextManager[Any]


def open_model(
    name: str, kind: Kind, device: str = "auto", dtype: str = "auto", cache_bytes: int | None = None
) -> Loaded:
    """Load the ``generator`` or ``scorer`` called ``name``.

    ``name`` is a folder, a hub name, or ``pocket:ROLE``. ``device`` is ``auto`` (a GPU if there is one) or torch's name
    of a device. ``dtype`` is ``auto`` (float32 on a CPU, the checkpoint's own elsewhere) or torch's name of a type.
    ``cache_bytes`` None is 1 GiB on a CPU, and a quarter of the free memory of a GPU. Raises ``BackendError`` if the
    model cannot be loaded or cannot serve as ``kind``.
    """
    try:
        where = torch.device(device_of(device))
    except RuntimeError as error:  # torch knows no such device
        raise cannot_load(name, kind, device, error) from error
    folder = checkpoint_folder(resolved(name))
    config = read_json(folder, "config.json") if folder else {}
    shape = llama_shape(config, kind)
    if folder is None or shape is None:
        return _with_transformers(name, kind, where, dtype, cache_bytes)
    try:
        model = _llama(name, folder, shape, where, _number_format(dtype, config, where))
    except BackendError:
        raise
    except Exception as error:  # a checkpoint or the device may raise anything
        raise cannot_load(name, kind, str(where), error) from error
    if model is None:
        return _with_transformers(name, kind, where, dtype, cache_bytes)
    texts = fast_token_texts(folder) or _transformers_texts(name, kind, where)
    settings = read_json(folder, "generation_config.json") or config  # as transformers does
    ends = _ends(texts, settings.get("eos_token_id"))
    return Loaded(name, model, texts, ends, shape.num_labels, _cache_bytes(cache_bytes, where), _turn(where))


def device_of(device: str) -> str:
    """Return torch's name of the device; ``auto`` is a GPU if there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def cannot_load(name: str, kind: str, where: str, error: Exception) -> BackendError:
    """Return the error for a model that cannot be loaded because of ``error``."""
    return BackendError(
        f"cannot load the model {name!r} as a {kind} on {where}: {reason_of(error)}. "
        "Give a folder in Hugging Face format, a name of the hub, or pocket:draft"
    )


def reason_of(error: Exception) -> str:
    """Return why a checkpoint cannot be loaded: the first line of ``error``, and what to do about other formats."""
    reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    if "safetensors" not in reason:
        return reason
    return (
        f"{reason}. Only weights in safetensors files are loaded, because loading others can run code. Convert them "
        "first (docs/how-to/convert-reward-models.md#convert-other-formats-to-safetensors)"
    )


def too_long(loaded: Loaded, tokens: int) -> ContextTooLongError:
    """Return the error for a text to score that is longer than the model's context."""
    return ContextTooLongError(
        f"the text to score has {tokens} tokens, and the context of {loaded.name} holds "
        f"{loaded.model.context}: lower limits.max_tokens or shorten the question"
    )


def lacks_weights(name: str, kind: str, missing: Iterable[str]) -> BackendError:
    """Return the error for a checkpoint without the weights ``missing``."""
    return BackendError(
        f"the model {name!r} cannot serve as a {kind}: its checkpoint lacks {', '.join(sorted(missing))}"
    )


def has_bias(name: str) -> BackendError:
    """Return the error for a classifier whose head has a bias that is not zero."""
    return BackendError(
        f"the head of {name!r} has a bias, which transformers would ignore: serve it with an engine that supports "
        'it (sglang), with backend = "http"'
    )


def _llama(
    name: str, folder: Path, shape: LlamaShape, where: torch.device, dtype: torch.dtype | None
) -> LlamaModel | None:
    """Return the model; None if its weights are not in safetensors files."""
    files = weights_of(folder, resolved(name))
    if files is None:
        return None
    missing = shape.weights().keys() - files.keys()
    if missing:
        raise lacks_weights(name, "scorer" if shape.num_labels else "generator", missing)
    if shape.num_labels and _BIAS in files and read_weights(files, [_BIAS], where, None)[_BIAS].any():
        raise has_bias(name)
    names = [*shape.weights()]
    if not shape.num_labels and _HEAD in files and _HEAD not in names:
        names.append(_HEAD)  # a head that is stored counts, even if the configuration ties it to the embedding
    return LlamaModel(shape, read_weights(files, names, where, dtype))


def _number_format(dtype: str, config: Mapping[str, Any], where: torch.device) -> torch.dtype | None:
    """Return the number format that ``dtype`` means; None for that of each stored weight."""
    if dtype == "auto":
        dtype = "float32" if where.type == "cpu" else str(config.get("dtype") or config.get("torch_dtype") or "auto")
    return None if dtype == "auto" else getattr(torch, dtype)


def _with_transformers(name: str, kind: Kind, where: torch.device, dtype: str, cache_bytes: int | None) -> Loaded:
    from arbiter.backends.in_process.transformers_loading import load
    from arbiter.backends.in_process.transformers_model import wrap

    loaded = load(name, kind, str(where), dtype)
    settings: Any = loaded.model.generation_config
    texts = TransformersTokenTexts(loaded.tokenizer)
    try:
        model = wrap(loaded.model, loaded.context)
    except BackendError:
        raise
    except Exception as error:  # code of any family
        raise cannot_load(name, kind, str(where), error) from error
    return Loaded(
        name,
        model,
        texts,
        _ends(texts, settings.eos_token_id if settings is not None else None),
        cast("int", loaded.model.config.num_labels) if kind == "scorer" else 0,
        _cache_bytes(cache_bytes, where),
        _turn(where),
    )


def _transformers_texts(name: str, kind: Kind, where: torch.device) -> TokenTexts:
    from transformers import AutoTokenizer

    try:
        reader: Any = AutoTokenizer  # typed in part
        return TransformersTokenTexts(reader.from_pretrained(resolved(name), trust_remote_code=False))
    except Exception as error:  # a tokenizer or the hub may raise anything
        raise cannot_load(name, kind, str(where), error) from error


def _ends(texts: TokenTexts, given: Any) -> frozenset[int]:  # noqa: ANN401 - a number, several, or none
    """Return the tokens that end an answer: those of the generation settings (several in chat models), and the
    tokenizer's.
    """
    ends = cast("list[int | None]", given if isinstance(given, list) else [given])
    return frozenset(end for end in (*ends, texts.end) if end is not None)


def _turn(where: torch.device) -> AbstractContextManager[Any]:
    return _TURNS[f"{where.type}:{where.index or 0}"]


def _cache_bytes(given: int | None, where: torch.device) -> int:
    if given is not None:
        return given
    return torch.cuda.mem_get_info(where)[0] // _SHARE if where.type == "cuda" else _ON_CPU
