"""A forward pass of the Llama family over slots of keys and values, without transformers.

The tokens of all chunks go through the linear layers together, without padding. Chunks of one token attend together,
in two batched products; each longer chunk attends alone.

The family is Llama and Qwen2 without a sliding window: RMS norms, rotary positions, grouped queries, gated SiLU.
The formulas are those of transformers' ``modeling_llama.py``; a test compares the logits.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch is typed in part)

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import torch
from torch import Tensor
from torch.nn import functional

from arbiter.backends.in_process.kv_slots import KVSlots
from arbiter.backends.in_process.sequence_model import Chunk


class Rope(msgspec.Struct, frozen=True):
    """How positions are encoded: the fields of ``rope_parameters`` in a ``config.json``."""

    rope_type: Literal["default", "llama3"] = "default"
    rope_theta: float = 10000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


class LlamaShape(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of a model: the fields of its ``config.json``, by their names there.

    ``num_labels`` is 0 for a generator.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: Rope = Rope()
    tie_word_embeddings: bool = False
    has_bias: bool = False
    """Whether the projections to queries, keys and values have a bias, as in Qwen2."""
    num_labels: int = 0

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each weight, by its name in a checkpoint."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries, keys = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, hidden)}
        for layer in range(self.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            for name, rows in (("q", queries), ("k", keys), ("v", keys)):
                found[f"{prefix}self_attn.{name}_proj.weight"] = (rows, hidden)
                if self.has_bias:
                    found[f"{prefix}self_attn.{name}_proj.bias"] = (rows,)
            found[f"{prefix}self_attn.o_proj.weight"] = (hidden, queries)
            found[f"{prefix}mlp.gate_proj.weight"] = found[f"{prefix}mlp.up_proj.weight"] = (inner, hidden)
            found[f"{prefix}mlp.down_proj.weight"] = (hidden, inner)
            found[f"{prefix}input_layernorm.weight"] = found[f"{prefix}post_attention_layernorm.weight"] = (hidden,)
        found["model.norm.weight"] = (hidden,)
        if self.num_labels:
            found["score.weight"] = (self.num_labels, hidden)
        elif not self.tie_word_embeddings:
            found["lm_head.weight"] = (self.vocab_size, hidden)
        return found


class LlamaModel:
    """A ``SequenceModel``. ``weights`` has the tensors that ``shape.weights()`` names, on one device, in one type.

    It is emptied, so that no weight is in memory twice. If it has ``lm_head.weight``, the head is not tied.
    """

    def __init__(self, shape: LlamaShape, weights: dict[str, Tensor]) -> None:
        self._embedding = weights.pop("model.embed_tokens.weight")
        self._norms = _Norms(shape, self._embedding)
        self._layers = [
            _Layer(weights, f"model.layers.{layer}.", self._norms) for layer in range(shape.num_hidden_layers)
        ]
        self._head = weights.pop("score.weight" if shape.num_labels else "lm_head.weight", self._embedding).t()
        self._norm = weights.pop("model.norm.weight")
        self._shape = shape
        self.context = shape.max_position_embeddings
        device, dtype = self._embedding.device, self._embedding.dtype
        self.slots = KVSlots(
            shape.num_hidden_layers, shape.num_key_value_heads, shape.head_dim, self.context, dtype, device
        )
        self._cos, self._sin = rotations(shape, self.context, device, dtype)
        self._positions = torch.arange(self.context, device=device)

    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """As ``SequenceModel.read``."""
        batch = _Batch(chunks, self._shape, self._positions, self._embedding.dtype)
        cos, sin = self._cos[batch.positions], self._sin[batch.positions]
        x = functional.embedding(batch.ids, self._embedding)
        last = self._layers[-1]
        for layer, kv in zip(self._layers, self.slots.layers, strict=True):
            found = self._attend(layer, x, kv, batch, cos, sin)
            if layer is last:  # nothing reads the other tokens any more
                found, x = found[batch.shown], x[batch.shown]
            x = torch.addmm(x, found, layer.out)
            gate, up = torch.mm(self._norms.apply(x, layer.norm_mlp), layer.gate_up).chunk(2, -1)
            x = torch.addmm(x, functional.silu(gate).mul_(up), layer.down)
        return functional.rms_norm(x, (self._shape.hidden_size,), self._norm, self._shape.rms_norm_eps)

    def outputs(self, hidden: Tensor) -> Tensor:
        """As ``SequenceModel.outputs``."""
        return torch.mm(hidden, self._head).float()

    def move(self, source: int, target: int, tokens: int) -> None:
        """As ``SequenceModel.move``."""
        self.slots.move(source, target, tokens)

    def _attend(self, layer: "_Layer", x: Tensor, kv: Tensor, batch: "_Batch", cos: Tensor, sin: Tensor) -> Tensor:
        """Write keys and values of the tokens, and return the attention: ``[tokens, heads × head size]``."""
        shape = self._shape
        heads, groups, size = shape.num_key_value_heads, shape.num_attention_heads, shape.head_dim
        normed = self._norms.apply(x, layer.norm_in)
        qkv = torch.mm(normed, layer.qkv) if layer.bias is None else torch.addmm(layer.bias, normed, layer.qkv)
        qkv = qkv.view(-1, groups + 2 * heads, size)
        turned = qkv[:, : groups + heads]
        swapped = torch.flip(turned.view(*turned.shape[:2], 2, size // 2), (2,)).view_as(turned)
        turned = (turned * cos).addcmul_(swapped, sin)
        kv[batch.rows, :, batch.positions] = torch.stack((turned[:, groups:], qkv[:, groups + heads :]), 2)
        return batch.attention(turned[:, :groups], kv).reshape(-1, groups * size)


class _Norms:
    """RMS norms. On a CPU in float32, the weights of a norm are folded into the matrix that reads it.

    torch has no single operation for RMS norms on CPUs. x / hypot(|x|, √(n ε)) needs three, and is √n times too small.
    """

    def __init__(self, shape: LlamaShape, like: Tensor) -> None:
        self._folds = like.device.type == "cpu" and like.dtype == torch.float32
        self._size = shape.hidden_size
        self._eps = shape.rms_norm_eps
        self._floor = torch.tensor(math.sqrt(self._size * self._eps), device=like.device)

    def folded(self, weight: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight and the matrix ``[hidden, outputs]`` to use."""
        if not self._folds:
            return weight, matrix.contiguous()
        return weight, (matrix * (weight * math.sqrt(self._size))[:, None]).contiguous()

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the norms of ``x``, ``[tokens, hidden]``, for a product with the matrix that ``folded`` returned."""
        if not self._folds:
            return functional.rms_norm(x, (self._size,), weight, self._eps)
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self._floor)


class _Layer:
    """The weights of a layer, transposed for products from the right, with those of the same input side by side."""

    def __init__(self, weights: dict[str, Tensor], prefix: str, norms: _Norms) -> None:
        def joined(*names: str) -> Tensor:
            return torch.cat([weights.pop(f"{prefix}{name}.weight") for name in names]).t()

        projections = [f"self_attn.{name}_proj" for name in "qkv"]
        self.norm_in, self.qkv = norms.folded(weights.pop(f"{prefix}input_layernorm.weight"), joined(*projections))
        biases = [weights.pop(f"{prefix}{name}.bias", None) for name in projections]
        self.bias = torch.cat([bias for bias in biases if bias is not None]) if biases[0] is not None else None
        self.out = joined("self_attn.o_proj").contiguous()
        self.norm_mlp, self.gate_up = norms.folded(
            weights.pop(f"{prefix}post_attention_layernorm.weight"), joined("mlp.gate_proj", "mlp.up_proj")
        )
        self.down = joined("mlp.down_proj").contiguous()


class _Batch:
    """The chunks of a pass as index tensors. Tokens are numbered through all chunks, in their order."""

    def __init__(self, chunks: Sequence[Chunk], shape: LlamaShape, numbers: Tensor, dtype: torch.dtype) -> None:
        device = numbers.device
        self._heads = shape.num_key_value_heads
        self._queries = shape.num_attention_heads // self._heads  # per key-value head
        self._scale = shape.head_dim**-0.5
        flat = [token for chunk in chunks for token in chunk.ids]
        where = [place for chunk in chunks for place in range(chunk.start, chunk.start + len(chunk.ids))]
        slots = [chunk.slot for chunk in chunks for _ in chunk.ids]
        table = torch.tensor([flat, where, slots], device=device)
        self.ids = table[0]
        self.positions = table[1][:, None]
        self.rows = table[2][:, None] * self._heads + numbers[: self._heads]
        self._longer: list[tuple[Chunk, int, Tensor]] = []
        tokens: list[int] = []
        shown: list[int] = []
        first = 0
        hidden = torch.tensor(-math.inf, dtype=dtype, device=device)
        for chunk in chunks:
            count = len(chunk.ids)
            if count == 1:
                tokens.append(first)
            else:
                end = chunk.start + count
                seen = numbers[:end] <= numbers[chunk.start : end, None]
                self._longer.append((chunk, first, torch.where(seen, hidden.new_zeros(()), hidden)))
            first += count
            shown.extend(range(first - chunk.shown, first))
        self.shown = slice(None) if len(shown) == first else torch.tensor(shown, dtype=torch.long, device=device)
        self._lay_out_single([chunk for chunk in chunks if len(chunk.ids) == 1], tokens, numbers, hidden)

    def _lay_out_single(self, chunks: Sequence[Chunk], tokens: list[int], numbers: Tensor, hidden: Tensor) -> None:
        """Prepare the attention of chunks of one token: over all slots up to the last one of them."""
        self._mask = self._tokens = self._owners = None
        if not chunks:
            return
        self._top = max(chunk.start for chunk in chunks) + 1
        self._span = max(chunk.slot for chunk in chunks) + 1
        limits = [0] * self._span
        for chunk in chunks:
            limits[chunk.slot] = chunk.start
        seen = numbers[: self._top] <= torch.tensor(limits, device=numbers.device)[:, None]
        mask = torch.where(seen, hidden.new_zeros(()), hidden)[:, None, None]
        wide = mask.expand(self._span, self._heads, self._queries, self._top)
        self._mask = wide.reshape(self._span * self._heads, self._queries, self._top)
        if self._longer or [chunk.slot for chunk in chunks] != list(range(self._span)):
            self._tokens = torch.tensor(tokens, device=numbers.device)
            self._owners = torch.tensor([chunk.slot for chunk in chunks], device=numbers.device)

    def attention(self, queries: Tensor, kv: Tensor) -> Tensor:
        """Return the attention of ``queries`` over what their slots hold: both ``[tokens, heads, head size]``."""
        if self._mask is not None and self._tokens is None:
            return self._attend_single(queries, kv, self._mask)
        found = torch.empty_like(queries)
        if self._mask is not None and self._owners is not None:
            spread = queries.new_zeros((self._span, *queries.shape[1:]))
            spread[self._owners] = queries[self._tokens]
            found[self._tokens] = self._attend_single(spread, kv, self._mask)[self._owners]
        for chunk, first, mask in self._longer:
            end = first + len(chunk.ids)
            found[first:end] = self._attend_chunk(queries[first:end], kv, chunk.slot, mask)
        return found

    def _attend_single(self, queries: Tensor, kv: Tensor, mask: Tensor) -> Tensor:
        rows, _, size = queries.shape
        q = queries.reshape(rows * self._heads, self._queries, size)
        held = kv[: rows * self._heads, :, : self._top]
        scores = torch.baddbmm(mask, q, held[:, 0].transpose(1, 2), alpha=self._scale)
        return torch.bmm(_softmax(scores), held[:, 1]).view(rows, -1, size)

    def _attend_chunk(self, queries: Tensor, kv: Tensor, slot: int, mask: Tensor) -> Tensor:
        tokens, _, size = queries.shape
        heads = self._heads
        q = queries.view(tokens, heads, self._queries, size).permute(1, 2, 0, 3).reshape(heads, -1, size)
        held = kv[slot * heads : (slot + 1) * heads, :, : mask.shape[-1]]
        scores = torch.bmm(q, held[:, 0].transpose(1, 2)).mul_(self._scale)
        scores = scores.view(heads, -1, *mask.shape).add_(mask).view(heads, -1, mask.shape[-1])
        found = torch.bmm(_softmax(scores), held[:, 1]).view(heads, -1, tokens, size)
        return found.permute(2, 0, 1, 3).reshape(tokens, -1, size)


def _softmax(scores: Tensor) -> Tensor:
    if scores.dtype == torch.float32:
        return torch.softmax(scores, -1)
    return torch.softmax(scores, -1, dtype=torch.float32).to(scores.dtype)


def rotations(shape: LlamaShape, tokens: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cos and sin of the rotary positions: ``[tokens, head_dim]`` each.

    The first half of ``sin`` is negated, so that ``x * cos + swapped * sin`` rotates x, where the halves are swapped.
    """
    frequencies = _frequencies(shape.rope, shape.head_dim)
    angles = torch.outer(torch.arange(tokens).float(), frequencies)
    cos, sin = torch.cat((angles.cos(),) * 2, -1), torch.cat((-angles.sin(), angles.sin()), -1)
    return cos.to(device, dtype), sin.to(device, dtype)


def _frequencies(rope: Rope, size: int) -> Tensor:
    plain = 1.0 / rope.rope_theta ** (torch.arange(0, size, 2).float() / size)
    if rope.rope_type == "default":
        return plain
    # Llama 3.1: low frequencies are divided by the factor, with a smooth transition
    turns = rope.original_max_position_embeddings * plain / (2 * math.pi)
    smooth = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    return plain * (smooth.clamp(0, 1) + (1 - smooth.clamp(0, 1)) / rope.factor)
