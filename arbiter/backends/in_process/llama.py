"""A forward pass of the Llama family over slots of keys and values, without transformers.

The tokens of all chunks go through the linear layers together, without padding.

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
from arbiter.backends.in_process.llama_attention import PassAttention
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
            _Layer(weights, f"model.layers.{layer}.", self._norms, shape.head_dim)
            for layer in range(shape.num_hidden_layers)
        ]
        self._head = weights.pop("score.weight" if shape.num_labels else "lm_head.weight", self._embedding).t()
        self._norm = weights.pop("model.norm.weight")
        self._shape = shape
        self.context = shape.max_position_embeddings
        device, dtype = self._embedding.device, self._embedding.dtype
        self.slots = KVSlots(
            shape.num_hidden_layers, shape.num_key_value_heads, shape.head_dim, self.context, dtype, device
        )
        self._rotations = _rotations(shape, self.context).to(device)
        self._positions = torch.arange(self.context, device=device)

    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """As ``SequenceModel.read``."""
        heads = self._shape.num_key_value_heads
        queries = self._shape.num_attention_heads // heads
        attention = PassAttention(chunks, self.slots.layers, heads, queries, self._positions)
        rotation = self._rotations[attention.positions][:, None]
        x = functional.embedding(attention.ids, self._embedding)
        last = self._layers[-1]
        for number, layer in enumerate(self._layers):
            found = self._attend(number, x, attention, rotation)
            if layer is last:
                x = x[attention.shown]
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

    def _attend(self, number: int, x: Tensor, attention: PassAttention, rotation: Tensor) -> Tensor:
        """Write keys and values of the tokens, and return the attention: ``[tokens, heads × head size]``."""
        layer, groups = self._layers[number], self._shape.num_attention_heads
        normed = self._norms.apply(x, layer.norm_in)
        qkv = torch.mm(normed, layer.qkv) if layer.bias is None else torch.addmm(layer.bias, normed, layer.qkv)
        qkv = qkv.unflatten(1, (-1, self._shape.head_dim))
        _rotate(qkv[:, : groups + self._shape.num_key_value_heads], rotation)
        return attention.attend(number, qkv[:, :groups], qkv[:, groups:]).flatten(1)


def _rotate(heads: Tensor, rotation: Tensor) -> None:
    """Rotate queries and keys, ``[tokens, heads, head size]``, in place."""
    exact = heads.float()  # itself, if it is in float32
    torch.view_as_complex(exact.unflatten(2, (-1, 2))).mul_(rotation)
    if exact is not heads:
        heads.copy_(exact)


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

    def __init__(self, weights: dict[str, Tensor], prefix: str, norms: _Norms, size: int) -> None:
        def joined(*names: str) -> Tensor:
            return torch.cat([weights.pop(f"{prefix}{name}.weight") for name in names]).t()

        for part in ("weight", "bias"):
            for name in (f"{prefix}self_attn.q_proj.{part}", f"{prefix}self_attn.k_proj.{part}"):
                if name in weights:
                    weights[name] = _interleaved(weights[name], size)
        projections = [f"self_attn.{name}_proj" for name in "qkv"]
        self.norm_in, self.qkv = norms.folded(weights.pop(f"{prefix}input_layernorm.weight"), joined(*projections))
        biases = [weights.pop(f"{prefix}{name}.bias", None) for name in projections]
        self.bias = torch.cat([bias for bias in biases if bias is not None]) if biases[0] is not None else None
        self.out = joined("self_attn.o_proj").contiguous()
        self.norm_mlp, self.gate_up = norms.folded(
            weights.pop(f"{prefix}post_attention_layernorm.weight"), joined("mlp.gate_proj", "mlp.up_proj")
        )
        self.down = joined("mlp.down_proj").contiguous()


def _interleaved(weight: Tensor, size: int) -> Tensor:
    """Return the weight or bias of a projection with the two halves of each head's outputs interleaved.

    A rotation turns the number i of the first half with the number i of the second. Side by side they are a complex
    number. Products of queries and keys do not depend on the order.
    """
    return weight.unflatten(0, (-1, 2, size // 2)).transpose(1, 2).flatten(0, 2)


def _rotations(shape: LlamaShape, tokens: int) -> Tensor:
    """Return the rotary positions as complex numbers: ``[tokens, head_dim / 2]``."""
    angles = torch.outer(torch.arange(tokens).float(), _frequencies(shape.rope, shape.head_dim))
    return torch.polar(torch.ones_like(angles), angles)


def _frequencies(rope: Rope, size: int) -> Tensor:
    plain = 1.0 / rope.rope_theta ** (torch.arange(0, size, 2).float() / size)
    if rope.rope_type == "default":
        return plain
    # Llama 3.1: low frequencies are divided by the factor, with a smooth transition
    turns = rope.original_max_position_embeddings * plain / (2 * math.pi)
    smooth = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    return plain * (smooth.clamp(0, 1) + (1 - smooth.clamp(0, 1)) / rope.factor)
