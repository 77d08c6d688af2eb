"""A forward pass of the Llama family over slots of keys and values, without transformers.

The tokens of all chunks go through the linear layers together, without padding. Chunks of one token attend together,
in two batched products; each longer chunk attends alone.

The family is Llama and Qwen2 without a sliding window: RMS norms, rotary positions, grouped queries, gated SiLU.
The formulas are those of transformers' ``modeling_llama.py``; a test compares the logits.
"""

import math
from collections.abc import Mapping, Sequence
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
    """The shape of a model: fields of its ``config.json``, by their names there. ``num_labels`` is 0 for a generator."""

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
    """A ``SequenceModel``. ``weights`` has the tensors that ``shape.weights()`` names, on one device, in one type."""

    def __init__(self, shape: LlamaShape, weights: Mapping[str, Tensor]) -> None:
        self._embedding = weights["model.embed_tokens.weight"]
        self._layers = [_Layer(weights, f"model.layers.{layer}.") for layer in range(shape.num_hidden_layers)]
        self._norm = weights["model.norm.weight"]
        head = "score.weight" if shape.num_labels else "lm_head.weight"
        self._head = weights.get(head, self._embedding).t().contiguous()
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
        batch = _Batch(chunks, self._shape.num_key_value_heads, self._positions)
        cos, sin = self._cos[batch.positions], self._sin[batch.positions]
        x = functional.embedding(batch.ids, self._embedding)
        for layer, kv in zip(self._layers, self.slots.layers, strict=True):
            x = self._layer(layer, x, kv, batch, cos, sin)
        return self._normed(x[batch.shown], self._norm)

    def outputs(self, hidden: Tensor) -> Tensor:
        """As ``SequenceModel.outputs``."""
        return torch.mm(hidden, self._head).float()

    def move(self, source: int, target: int, tokens: int) -> None:
        """As ``SequenceModel.move``."""
        self.slots.move(source, target, tokens)

    def _layer(self, layer: "_Layer", x: Tensor, kv: Tensor, batch: "_Batch", cos: Tensor, sin: Tensor) -> Tensor:
        shape = self._shape
        heads, groups, size = shape.num_key_value_heads, shape.num_attention_heads, shape.head_dim
        normed = self._normed(x, layer.norm_in)
        qkv = torch.mm(normed, layer.qkv) if layer.bias is None else torch.addmm(layer.bias, normed, layer.qkv)
        qkv = qkv.view(-1, groups + 2 * heads, size)
        turned = qkv[:, : groups + heads]
        half = turned.unflatten(-1, (2, size // 2)).flip(2).flatten(2)
        turned = (turned * cos).addcmul_(half, sin)
        kv[batch.rows, :, batch.places] = torch.stack((turned[:, groups:], qkv[:, groups + heads :]), 2)
        found = batch.attention(turned[:, :groups], kv, size**-0.5)
        x = torch.addmm(x, found.reshape(-1, groups * size), layer.out)
        gate, up = torch.mm(self._normed(x, layer.norm_mlp), layer.gate_up).chunk(2, -1)
        return torch.addmm(x, functional.silu(gate).mul_(up), layer.down)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x, (self._shape.hidden_size,), weight, self._shape.rms_norm_eps)


class _Layer:
    """The weights of a layer, transposed for products from the right, with those of the same input side by side."""

    def __init__(self, weights: Mapping[str, Tensor], prefix: str) -> None:
        def joined(*names: str) -> Tensor:
            return torch.cat([weights[f"{prefix}{name}.weight"] for name in names]).t().contiguous()

        projections = [f"self_attn.{name}_proj" for name in "qkv"]
        self.qkv = joined(*projections)
        biases = [weights.get(f"{prefix}{name}.bias") for name in projections]
        self.bias = torch.cat([bias for bias in biases if bias is not None]) if biases[0] is not None else None
        self.out = joined("self_attn.o_proj")
        self.gate_up = joined("mlp.gate_proj", "mlp.up_proj")
        self.down = joined("mlp.down_proj")
        self.norm_in = weights[f"{prefix}input_layernorm.weight"]
        self.norm_mlp = weights[f"{prefix}post_attention_layernorm.weight"]


class _Batch:
    """The chunks of a pass as index tensors. Tokens are numbered through all chunks, in their order."""

    def __init__(self, chunks: Sequence[Chunk], heads: int, numbers: Tensor) -> None:
        device = numbers.device
        self._heads = heads
        self._numbers = numbers
        flat = [token for chunk in chunks for token in chunk.ids]
        where = [place for chunk in chunks for place in range(chunk.start, chunk.start + len(chunk.ids))]
        slots = [chunk.slot for chunk in chunks for _ in chunk.ids]
        table = torch.tensor([flat, where, slots], device=device)
        self.ids, positions, owner = table[0], table[1], table[2]
        self.positions = positions[:, None].expand(-1, 1)
        self.rows = owner[:, None] * heads + numbers[:heads]
        self.places = self.positions
        self._longer: list[tuple[Chunk, int]] = []
        single: list[int] = []
        shown: list[int] = []
        first = 0
        for chunk in chunks:
            if len(chunk.ids) == 1:
                single.append(first)
            else:
                self._longer.append((chunk, first))
            first += len(chunk.ids)
            shown.extend(range(first - chunk.shown, first))
        self.shown = slice(None) if len(shown) == first else torch.tensor(shown, dtype=torch.long, device=device)
        self._lay_out_single([chunk for chunk in chunks if len(chunk.ids) == 1], single, device)

    def _lay_out_single(self, chunks: Sequence[Chunk], tokens: list[int], device: torch.device) -> None:
        """Prepare the attention of chunks of one token: over all slots up to the last one of them."""
        self._top = max((chunk.start + 1 for chunk in chunks), default=0)
        self._span = max((chunk.slot + 1 for chunk in chunks), default=0)
        self._mask = self._single = self._owners = None
        if not chunks:
            return
        lengths = [0] * self._span
        for chunk in chunks:
            lengths[chunk.slot] = chunk.start
        limits = torch.tensor(lengths, device=device)
        self._mask = torch.zeros((), device=device).where(self._numbers[: self._top] <= limits[:, None], -math.inf)
        if [chunk.slot for chunk in chunks] != list(range(self._span)) or self._longer:
            self._single = torch.tensor(tokens, device=device)
            self._owners = torch.tensor([chunk.slot for chunk in chunks], device=device)

    def attention(self, queries: Tensor, kv: Tensor, scale: float) -> Tensor:
        """Return the attention of ``queries`` over what their slots hold: both ``[tokens, heads, head size]``."""
        if self._mask is not None and self._single is None:
            return self._single_tokens(queries, kv, scale, self._mask)
        found = torch.empty_like(queries)
        if self._mask is not None and self._single is not None and self._owners is not None:
            spread = queries.new_zeros((self._span, *queries.shape[1:]))
            spread[self._owners] = queries[self._single]
            found[self._single] = self._single_tokens(spread, kv, scale, self._mask)[self._owners]
        for chunk, first in self._longer:
            end = first + len(chunk.ids)
            found[first:end] = self._chunk(queries[first:end], kv, scale, chunk)
        return found

    def _single_tokens(self, queries: Tensor, kv: Tensor, scale: float, mask: Tensor) -> Tensor:
        rows, groups, size = queries.shape
        heads = self._heads
        q = queries.reshape(rows * heads, groups // heads, size)
        held = kv[: rows * heads, :, : self._top]
        wide = mask.to(q.dtype)[:, None, None].expand(rows, heads, groups // heads, self._top)
        scores = torch.baddbmm(wide.reshape(rows * heads, -1, self._top), q, held[:, 0].transpose(1, 2), alpha=scale)
        return torch.bmm(_softmax(scores), held[:, 1]).view(rows, groups, size)

    def _chunk(self, queries: Tensor, kv: Tensor, scale: float, chunk: Chunk) -> Tensor:
        tokens, groups, size = queries.shape
        heads, end = self._heads, chunk.start + tokens
        q = queries.view(tokens, heads, groups // heads, size).permute(1, 2, 0, 3).reshape(heads, -1, size)
        held = kv[chunk.slot * heads : (chunk.slot + 1) * heads, :, :end]
        scores = torch.bmm(q, held[:, 0].transpose(1, 2)).mul_(scale).view(heads, -1, tokens, end)
        visible = self._numbers[:end] <= self._numbers[chunk.start : end, None]
        scores = scores.masked_fill_(~visible, -math.inf).view(heads, -1, end)
        found = torch.bmm(_softmax(scores), held[:, 1]).view(heads, -1, tokens, size)
        return found.permute(2, 0, 1, 3).reshape(tokens, groups, size)


def _softmax(scores: Tensor) -> Tensor:
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
