"""Speeds of model servers by model and GPU, derived from data sheets and not measured.

Each figure follows from the roofline model, in bfloat16:

- ``step``: reading the weights once (bytes / bandwidth), plus ``OVERHEAD`` per pass;
- ``sequence``: 2 operations per parameter for its token;
- ``context``: reading the keys and values of 1,000 tokens (bytes / bandwidth);
- ``prefill``: 2 operations per parameter for each token;
- ``cache_tokens``: the keys and values that fit into the memory not used by the weights.

``BANDWIDTH_REACHED`` and ``OPERATIONS_REACHED`` are the shares of the data sheet's figures that are assumed to be
reached. Those, ``OVERHEAD`` and ``FIXED`` are assumptions of typical size. The times for weights and operations are
added, although good kernels overlap them: steps of large batches are slower here than in the plain roofline model.
"""

from collections.abc import Mapping
from typing import TypeVar

from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Record
from arbiter.simulation.engine import Speed

BANDWIDTH_REACHED = 0.8
OPERATIONS_REACHED = 0.5
OVERHEAD = 0.001  # seconds per pass: launching kernels, sampling, scheduling
FIXED = 0.005  # seconds per request: network, HTTP, tokenising
MEMORY_USED = 0.9
BYTES = 2  # per number in bfloat16

Entry = TypeVar("Entry")


class GPU(Record, frozen=True):
    """Figures of a data sheet: bytes per second, dense bfloat16 operations per second, bytes of memory."""

    bandwidth: float
    operations: float
    memory: float


class ModelShape(Record, frozen=True):
    """The number of parameters, and the shape of the key-value cache: layers, key-value heads, size of a head."""

    parameters: float
    layers: int
    heads: int
    head: int

    @property
    def weights(self) -> float:
        """Bytes of all weights."""
        return BYTES * self.parameters

    @property
    def cached(self) -> int:
        """Bytes of keys and values per token."""
        return 2 * self.layers * self.heads * self.head * BYTES


GPUS = {
    "A100": GPU(2.039e12, 312e12, 80e9),  # NVIDIA A100 80GB SXM, data sheet
    "H100": GPU(3.35e12, 989e12, 80e9),  # NVIDIA H100 80GB SXM, data sheet (without sparsity)
    "H200": GPU(4.8e12, 989e12, 141e9),  # NVIDIA H200 SXM, data sheet (without sparsity)
    "L40S": GPU(0.864e12, 362e12, 48e9),  # NVIDIA L40S, data sheet (without sparsity)
}

MODELS = {
    "1.5B": ModelShape(1.54e9, 28, 2, 128),  # Qwen2.5(-Math)-1.5B: model card and config.json, like the others
    "3B": ModelShape(3.09e9, 36, 2, 128),  # Qwen2.5-3B
    "7B": ModelShape(7.61e9, 28, 4, 128),  # Qwen2.5(-Math)-7B
    "8B": ModelShape(8.03e9, 32, 8, 128),  # Llama-3.1-8B
    "32B": ModelShape(32.5e9, 64, 8, 128),  # Qwen2.5-32B
    "70B": ModelShape(70.6e9, 80, 8, 128),  # Llama-3.1-70B
    "PRM-1.5B": ModelShape(1.54e9, 28, 2, 128),  # a reward model or router made of Qwen2.5-Math-1.5B
    "PRM-7B": ModelShape(7.61e9, 28, 4, 128),  # one made of Qwen2.5-Math-7B
}


def speed_of(model: str, gpu: str, gpus: int = 1, running: int = 64, mixed: bool = False) -> Speed:
    """Return the speed of a model on ``gpus`` GPUs, which share weights and work without loss.

    ``running`` is the limit of sequences in the server. ``mixed`` is as in ``Speed``. Raises ``ConfigError`` for a name
    that is not in the tables, or if the weights do not fit.
    """
    size, card = _known("model", model, MODELS), _known("GPU", gpu, GPUS)
    bandwidth = gpus * card.bandwidth * BANDWIDTH_REACHED
    operations = gpus * card.operations * OPERATIONS_REACHED
    return Speed(
        step=OVERHEAD + size.weights / bandwidth,
        sequence=2 * size.parameters / operations,
        context=1000 * size.cached / bandwidth,
        prefill=operations / (2 * size.parameters),
        fixed=FIXED,
        running=running,
        cache_tokens=_cache_tokens(size, gpus * card.memory * MEMORY_USED),
        mixed=mixed,
    )


def _known(kind: str, name: str, table: Mapping[str, Entry]) -> Entry:
    if name not in table:
        raise ConfigError(f"unknown {kind} {name!r}; known: {', '.join(table)}")
    return table[name]


def _cache_tokens(size: ModelShape, memory: float) -> int:
    if memory <= size.weights:
        raise ConfigError(
            f"{size.weights / 1e9:.0f} GB of weights do not fit into {memory / 1e9:.0f} GB: use more GPUs"
        )
    return int((memory - size.weights) / size.cached)
