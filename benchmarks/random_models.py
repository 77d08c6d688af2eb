"""Models with random weights, in the shapes of the paper's pairs. They are made in place, so nothing is downloaded.

Their texts are the numbers of their tokens ("12 7 993 "), so texts and tokens correspond exactly. The scale of the
weights keeps activations near 1. It also lets the layers outweigh the embedding of the last token, so a model does not
write one token again and again.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from random import Random

import msgspec
import torch

from arbiter.actors.supervision import services
from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.llama import LlamaModel, LlamaShape, Rope
from arbiter.backends.in_process.model_loading import Loaded
from arbiter.backends.prompts import PromptTemplate

SEPARATOR = "#"  # no text of a token has it
TEMPLATE = PromptTemplate("{question}")
_EMBEDDING = 0.02  # the standard deviation of embeddings
_llama = partial(LlamaShape, vocab_size=128256, max_position_embeddings=131072, rms_norm_eps=1e-5)
_qwen = partial(LlamaShape, max_position_embeddings=4096, rms_norm_eps=1e-6, has_bias=True)
_tiny = partial(LlamaShape, max_position_embeddings=2048, rms_norm_eps=1e-5)

SHAPES = {
    "Llama-3.2-1B": _llama(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        rope=Rope("llama3", 500000.0, 32.0),
        tie_word_embeddings=True,
    ),
    "Llama-3.1-8B": _llama(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        rope=Rope("llama3", 500000.0, 8.0),
    ),
    "Qwen2.5-Math-1.5B": _qwen(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        head_dim=128,
        vocab_size=151936,
        tie_word_embeddings=True,
    ),
    "Qwen2.5-Math-7B": _qwen(
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        head_dim=128,
        vocab_size=152064,
    ),
    "tiny draft": _tiny(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=512,
        tie_word_embeddings=True,
    ),
    "tiny target": _tiny(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=8,
        vocab_size=528,
        has_bias=True,
    ),
}
"""The shapes by name: the fields of each model's ``config.json`` on the Hugging Face hub, and two small ones."""

PAIRS = {
    "llama": ("Llama-3.2-1B", "Llama-3.1-8B"),
    "qwen": ("Qwen2.5-Math-1.5B", "Qwen2.5-Math-7B"),
    "tiny": ("tiny draft", "tiny target"),
}
"""Draft and target of each pair."""


class NumberTexts:
    """A tokenizer whose texts are the numbers of the tokens. Separators have no tokens."""

    end: int | None = None
    special: frozenset[str] = frozenset()
    as_json: str | None = None

    def encode(self, text: str, special: bool = True) -> list[int]:
        return [int(word) for word in text.replace(SEPARATOR, "").split()]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(f"{token} " for token in tokens)


class Pair(msgspec.Struct, frozen=True):
    """A draft and a target. ``vocabulary`` is the number of tokens that both have; they write no others."""

    draft: Loaded
    target: Loaded
    vocabulary: int


def random_pair(name: str, device: torch.device, dtype: torch.dtype, drawn_on: torch.device) -> Pair:
    """Make a pair of ``PAIRS`` on ``device``.

    The weights are drawn on ``drawn_on``: a CPU and a GPU draw different ones of the same seed.
    """
    vocabulary = min(SHAPES[model].vocab_size for model in PAIRS[name])
    draft, target = (_random_model(model, device, dtype, drawn_on, vocabulary) for model in PAIRS[name])
    return Pair(draft, target, vocabulary)


def _random_model(
    name: str, device: torch.device, dtype: torch.dtype, drawn_on: torch.device, vocabulary: int
) -> Loaded:
    shape, noise = SHAPES[name], torch.Generator(drawn_on).manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    for weight, size in shape.weights().items():
        drawn = torch.empty(size, dtype=dtype, device=drawn_on)
        if weight.endswith("norm.weight"):
            drawn.fill_(1.0)
        else:
            drawn.normal_(0.0, _EMBEDDING if "embed" in weight else size[-1] ** -0.5, generator=noise)
        if "embed" in weight or "lm_head" in weight:
            drawn[vocabulary:] = 0.0  # so that these tokens are never the likeliest
        weights[weight] = drawn.to(device)
    return Loaded(name, LlamaModel(shape, weights), NumberTexts(), frozenset(), 0, 1 << 30, nullcontext())


def random_text(noise: Random, tokens: int, vocabulary: int) -> str:
    """Return a text of ``tokens`` tokens."""
    return NumberTexts().decode([noise.randrange(vocabulary) for _ in range(tokens)])


def reserve(loaded: Loaded, rows: int, tokens: int) -> int:
    """Reserve the slots of ``rows`` rows of up to ``tokens`` tokens. Return the bytes of all slots of the model."""
    slots = loaded.model.slots
    assert slots is not None  # noqa: S101 - a LlamaModel has slots
    slots.reserve(rows, tokens)
    return slots.bytes


@asynccontextmanager
async def open_writer(loaded: Loaded, rows: int, cache_bytes: int) -> AsyncGenerator[InProcessGenerator]:
    """Yield the model as a generator that works on up to ``rows`` requests together."""
    generator = InProcessGenerator(msgspec.structs.replace(loaded, cache_bytes=cache_bytes), TEMPLATE, rows)
    async with services() as tasks:
        await tasks.start(generator.engine.worker.run)
        try:
            yield generator
        finally:
            generator.engine.worker.close()
