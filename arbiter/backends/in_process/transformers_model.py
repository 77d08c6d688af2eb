"""Models of other families, through transformers.

If all layers of a causal model attend to the whole context, its keys and values are kept in slots, as for the Llama
family. Chunks of one token are read together; longer chunks are read one after another. Other models have no slots. A
generator with a sliding window reads padded batches (``padded_batches.py``), and one with a recurrent state reads each
text with a cache of its own. Such a scorer, and one that attends in both directions, reads whole texts, padded to one
batch.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import inspect
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from arbiter.backends.in_process.kv_slots import KVSlots
from arbiter.backends.in_process.padded_batches import PaddedModel
from arbiter.backends.in_process.sequence_model import Chunk, SequenceModel
from arbiter.protocols.errors import BackendError

_OWN_WINDOWS = ("gpt_neo",)  # these apply a window of their own, which their cache does not show
_BY_LENGTH = ("dynamic", "longrope")  # positions depend on the longest text of a pass, which other rows may be
_PROBE = 6  # tokens
_ALIKE = 0.1  # the largest mean difference, relative to the outputs: half precision differs by a few hundredths


def wrap(model: PreTrainedModel, context: int) -> SequenceModel:
    """Return the ``SequenceModel`` of a generator or of a sequence classifier."""
    slots = _slots(model, context)
    if slots is not None:
        slotted = SlotModel(model, context, slots)
        if _reads_alike(model, slotted):
            return slotted
    if _scores(model):
        return WholeTextModel(model, context)
    return PaddedModel(model, context) if _attends(model) else CacheModel(model, context)


def _attends(model: PreTrainedModel) -> bool:
    """Return whether all layers attend to the tokens before, so that padding can be masked.

    Raises ``BackendError`` if the model takes no cache.
    """
    takes_keys = _cache_argument(model) == "past_key_values"
    layers = DynamicCache(config=model.config).layers
    return takes_keys and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _scores(model: PreTrainedModel) -> bool:
    return type(model).__name__.endswith("ForSequenceClassification")


@torch.inference_mode()
def _slots(model: PreTrainedModel, context: int) -> KVSlots | None:
    """Return slots with the shape of the keys and values that the model makes of one token; None if they do not fit."""
    if _scores(model) and not hasattr(model, "score"):
        return None  # it attends in both directions
    if model.config.model_type in _OWN_WINDOWS or any(kind in str(_rope(model)) for kind in _BY_LENGTH):
        return None
    cache = DynamicCache(config=model.config)
    if not all(type(layer) is DynamicLayer for layer in cache.layers):
        return None
    run: Any = model
    run(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device), past_key_values=cache, use_cache=True)
    layers = [cast("DynamicLayer", layer) for layer in cache.layers]
    shapes = {tuple(kv.shape) for layer in layers for kv in (layer.keys, layer.values) if kv is not None}
    if len(shapes) != 1 or not layers[0].is_initialized:
        return None
    ((_, heads, _, size),) = shapes
    return KVSlots(len(layers), heads, size, context, model.dtype, model.device)


def _rope(model: PreTrainedModel) -> Any:  # noqa: ANN401 - a table, or one per kind of layer
    return getattr(model.config, "rope_parameters", None)


@torch.inference_mode()
def _reads_alike(model: PreTrainedModel, slotted: "SlotModel") -> bool:
    """Return whether the model reads short texts into slots as it reads them alone.

    Some families compute masks or positions in a way that slots do not allow.
    """
    ids = [token for token in range(2, _PROBE + 3) if token != model.config.pad_token_id][:_PROBE]
    run: Any = model
    try:
        expected = [run(input_ids=torch.tensor([text], device=model.device)).logits for text in (ids[:2], ids)]
        slotted.slots.reserve(2, _PROBE)
        slotted.read([Chunk(0, 0, ids[:1], 1), Chunk(1, 0, ids[:-1], 1)])
        found = slotted.outputs(slotted.read([Chunk(0, 1, ids[1:2], 1), Chunk(1, _PROBE - 1, ids[-1:], 1)]))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # code of any family
        return False
    finally:
        slotted.slots.clear()
    own = torch.stack([logits[0] if logits.dim() == 2 else logits[0, -1] for logits in expected]).float()
    return bool((found - own).abs().mean() < _ALIKE * own.abs().mean())


class SlotModel:
    """A ``SequenceModel`` with slots. ``read`` returns the outputs; ``outputs`` only converts them to float32."""

    def __init__(self, model: PreTrainedModel, context: int, slots: KVSlots) -> None:
        self._model: Any = model
        self._options: dict[str, Any] = {"use_cache": True}
        self._is_scorer = _scores(model)
        self.context = context
        self.slots = slots

    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """As ``SequenceModel.read``, but ``[shown, outputs]``."""
        outputs: dict[int, Tensor] = {}
        single = [chunk for chunk in chunks if len(chunk.ids) == 1]
        if single:
            outputs |= self._read_single(single, max(chunk.slot for chunk in single) + 1)
        for chunk in chunks:
            if len(chunk.ids) > 1:
                shown = max(chunk.shown, 1)
                read = self._forward(slice(chunk.slot, chunk.slot + 1), [[*chunk.ids]], [chunk.start], shown, [0])
                outputs[chunk.slot] = read[0, -shown:]
        return torch.cat([outputs[chunk.slot][: chunk.shown] for chunk in chunks])

    def outputs(self, hidden: Tensor) -> Tensor:
        """As ``SequenceModel.outputs``, for what ``read`` returns."""
        return hidden.float()

    def move(self, source: int, target: int, tokens: int) -> None:
        """As ``SequenceModel.move``."""
        self.slots.move(source, target, tokens)

    def _read_single(self, chunks: Sequence[Chunk], span: int) -> dict[int, Tensor]:
        """Read the chunks of one token, in one pass over the first ``span`` slots.

        The other slots take part with token 0, and keep what they hold.
        """
        ids, starts = [[0]] * span, [0] * span
        for chunk in chunks:
            starts[chunk.slot] = chunk.start
            ids[chunk.slot] = [*chunk.ids]
        read = self._forward(slice(0, span), ids, starts, 1, [chunk.slot for chunk in chunks])
        return {chunk.slot: read[chunk.slot, -1:] for chunk in chunks}

    def _forward(self, slots: slice, ids: list[list[int]], starts: list[int], shown: int, written: list[int]) -> Tensor:
        """Read equally many tokens per slot, and keep those of ``written``, which are indices within ``slots``.

        Return ``[slots, at least shown, outputs]``.
        """
        device = self._model.device
        first = torch.tensor(starts, device=device)[:, None]
        positions = first + torch.arange(len(ids[0]), device=device)
        top = max(starts) + len(ids[0])
        visible = torch.arange(top, device=device) <= positions[:, :, None]
        mask = torch.zeros((), device=device, dtype=self._model.dtype).where(visible, -math.inf)
        rows = torch.tensor(written, device=device)
        layers = [
            _SlotLayer(kv.unflatten(0, (-1, self.slots.heads))[slots], rows, positions, top) for kv in self.slots.layers
        ]
        # a classifier returns the outputs of its last token that is not padding
        options = {} if self._is_scorer else {"logits_to_keep": shown}
        read: Tensor = self._model(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=mask[:, None],
            position_ids=positions,
            past_key_values=Cache(layers=cast("Any", layers)),
            **self._options,
            **options,
        ).logits
        return read[:, None] if self._is_scorer else read


class _SlotLayer(CacheLayerMixin):
    """A layer of a cache of transformers that writes into slots and returns what they hold."""

    def __init__(self, kv: Tensor, rows: Tensor, positions: Tensor, top: int) -> None:
        super().__init__()
        self._kv = kv  # [slots, heads, 2, tokens, size]
        self._rows = rows  # those that are written
        self._positions = positions
        self._top = top
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the tensors exist."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        new = torch.stack((key_states, value_states), 3).transpose(1, 2)  # [slots, tokens, heads, 2, size]
        self._kv[self._rows[:, None], :, :, self._positions[self._rows]] = new[self._rows]
        held = self._kv[:, :, :, : self._top]
        return held[:, :, 0], held[:, :, 1]

    def get_mask_sizes(self, *_: object, **__: object) -> tuple[int, int]:
        return self._top, 0

    def get_seq_length(self, *_: object, **__: object) -> int:
        return self._top - self._positions.shape[1]

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # its name before transformers 5.3


class CacheModel:
    """A generator without slots. Each slot number has a cache of transformers, and reads alone."""

    slots = None

    def __init__(self, model: PreTrainedModel, context: int) -> None:
        self._model: Any = model
        self._argument = _cache_argument(model)
        self._caches: dict[int, DynamicCache] = {}
        self.context = context

    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """As ``SequenceModel.read``, but ``[shown, outputs]``. A chunk that starts at 0 begins a new text."""
        return torch.cat([self._read(chunk) for chunk in chunks])

    def outputs(self, hidden: Tensor) -> Tensor:
        """As ``SequenceModel.outputs``, for what ``read`` returns."""
        return hidden.float()

    def move(self, source: int, target: int, tokens: int) -> None:
        """As ``SequenceModel.move``."""
        self._caches[target] = self._caches.pop(source)

    def _read(self, chunk: Chunk) -> Tensor:
        if chunk.start == 0:
            self._caches[chunk.slot] = DynamicCache(config=self._model.config)
        shown = max(chunk.shown, 1)
        ids = torch.tensor([[*chunk.ids]], device=self._model.device)
        state = {self._argument: self._caches[chunk.slot]}
        logits: Tensor = self._model(input_ids=ids, use_cache=True, logits_to_keep=shown, **state).logits
        return logits[0, -shown:][: chunk.shown]


def _cache_argument(model: PreTrainedModel) -> str:
    """Return the name under which the model takes its cache. Raises ``BackendError`` if it takes none."""
    known = inspect.signature(model.forward).parameters
    for name in ("past_key_values", "cache_params"):
        if name in known:
            return name
    raise BackendError(
        f"{type(model).__name__} cannot write steps in process: it takes no cache that transformers could continue. "
        'Serve it with an engine that supports it, with backend = "http"'
    )


class WholeTextModel:
    """A scorer without slots. Each chunk is a whole text; all chunks are one batch."""

    slots = None

    def __init__(self, model: PreTrainedModel, context: int) -> None:
        self._model: Any = model
        self.context = context

    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """As ``SequenceModel.read``, but ``[chunks, outputs]``: one token of each chunk is shown."""
        width, padding = max(len(chunk.ids) for chunk in chunks), self._model.config.pad_token_id
        # at the end: positions count from the first token, and some heads read it
        ids = [[*chunk.ids] + [padding] * (width - len(chunk.ids)) for chunk in chunks]
        seen = [[1] * len(chunk.ids) + [0] * (width - len(chunk.ids)) for chunk in chunks]
        device = self._model.device
        return self._model(
            input_ids=torch.tensor(ids, device=device), attention_mask=torch.tensor(seen, device=device)
        ).logits

    def outputs(self, hidden: Tensor) -> Tensor:
        """As ``SequenceModel.outputs``, for what ``read`` returns."""
        return hidden.float()

    def move(self, source: int, target: int, tokens: int) -> None:
        """As ``SequenceModel.move``: nothing is kept."""
