"""Measure the speeds of a model in process in the terms of the simulator, and compare them with its own figures."""

import time
from contextlib import AbstractAsyncContextManager
from random import Random
from statistics import median

import anyio
import msgspec
from random_models import SEPARATOR, SHAPES, open_writer, random_text, reserve

from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import Loaded
from arbiter.protocols.ports import GenerationRequest
from arbiter.protocols.records import Transcript
from arbiter.simulation.speeds import GPUS, MODELS, speed_of

BATCHES = (1, 16, 64)
READ = 1000
_WRITTEN = 48  # decode steps of a measurement
_SHORT = 8  # tokens of a prompt that hardly takes time
_REPEATS = 3
_VOCABULARY = min(shape.vocab_size for shape in SHAPES.values())


class Terms(msgspec.Struct, frozen=True):
    """Fields of ``arbiter.simulation.engine.Speed``.

    ``step`` is the seconds of a decode step, ``sequence`` those that each running sequence adds, and ``prefill`` is in
    tokens per second.
    """

    step: float
    sequence: float
    prefill: float


class ModelSpeed(msgspec.Struct, frozen=True):
    """The speed of a model.

    ``tokens`` are the tokens per second by batch size, and ``read`` the seconds to read 1,000 tokens. ``terms`` are
    the same in the simulator's terms. ``simulated`` are the simulator's own; None if it does not know model or GPU.
    """

    model: str
    tokens: dict[int, float]
    read: float
    terms: Terms
    simulated: Terms | None


async def measure_speed(loaded: Loaded, device: str) -> ModelSpeed:
    """Measure a model of ``SHAPES``. ``device`` is its name, for example "NVIDIA H100 80GB HBM3"."""
    passes = {batch: await _decoding(loaded, batch) for batch in BATCHES}
    read = await _reading(loaded, READ)
    return ModelSpeed(
        loaded.name,
        {batch: batch / seconds for batch, seconds in passes.items()},
        read,
        fitted(passes, read - await _reading(loaded, _SHORT)),
        simulated_terms(loaded.name, device),
    )


def fitted(passes: dict[int, float], read: float) -> Terms:
    """Return the terms that give the seconds of decode steps at the smallest and at the largest batch.

    ``passes`` are by batch size. ``read`` is the seconds by which reading 1,000 tokens exceeds a pass over few.
    """
    least, most = min(passes), max(passes)
    sequence = max((passes[most] - passes[least]) / (most - least), 0.0)
    return Terms(passes[least] - sequence * least, sequence, (READ - _SHORT) / read)


def simulated_terms(model: str, device: str) -> Terms | None:
    """Return the simulator's terms of a model and a GPU; None if it does not know one of them."""
    size = model.rpartition("-")[2]
    gpu = next((name for name in GPUS if name in device), None)
    if size not in MODELS or gpu is None:
        return None
    speed = speed_of(size, gpu)
    return Terms(speed.step, speed.sequence, speed.prefill)


def speed_table(speeds: list[ModelSpeed]) -> list[str]:
    """Return the lines of a Markdown table. In brackets: the figure divided by the simulator's."""
    batches = " | ".join(f"tokens/s, batch {batch}" for batch in BATCHES)
    lines = [
        f"| model | {batches} | {READ:,} tokens read, ms | `step`, ms | `sequence`, µs | `prefill`, tokens/s |",
        "|---" * (len(BATCHES) + 5) + "|",
    ]
    for speed in speeds:
        tokens = " | ".join(f"{speed.tokens[batch]:,.0f}" for batch in BATCHES)
        terms, known = speed.terms, speed.simulated
        lines.append(
            f"| {speed.model} | {tokens} | {1e3 * speed.read:.1f} "
            f"| {1e3 * terms.step:.2f}{_ratio(terms.step, known and known.step)} "
            f"| {1e6 * terms.sequence:.1f}{_ratio(terms.sequence, known and known.sequence)} "
            f"| {terms.prefill:,.0f}{_ratio(terms.prefill, known and known.prefill)} |"
        )
    return lines


def _ratio(measured: float, simulated: float | None) -> str:
    return "" if simulated is None else f" ({measured / simulated:.2f})"


async def _decoding(loaded: Loaded, batch: int) -> float:
    """Return the seconds of a decode step: the median of a few measurements, after one that warms up."""
    readings: list[float] = []
    async with _opened(loaded, batch, _SHORT + _WRITTEN + 1) as generator:
        for number in range(_REPEATS + 1):
            first = await _seconds(generator, f"{number} first", batch, _SHORT, 1)
            whole = await _seconds(generator, f"{number} whole", batch, _SHORT, _WRITTEN + 1)
            readings.append((whole - first) / _WRITTEN)
    return median(readings[1:])


async def _reading(loaded: Loaded, tokens: int) -> float:
    """Return the seconds to read a prompt and to write one token after it."""
    async with _opened(loaded, 1, tokens + 1) as generator:
        readings = [await _seconds(generator, str(number), 1, tokens, 1) for number in range(_REPEATS + 1)]
    return median(readings[1:])


def _opened(loaded: Loaded, rows: int, tokens: int) -> AbstractAsyncContextManager[InProcessGenerator]:
    return open_writer(loaded, rows, reserve(loaded, rows, tokens))  # nothing is kept, so everything is read


async def _seconds(generator: InProcessGenerator, seed: str, batch: int, prompt: int, written: int) -> float:
    """Return the seconds of ``batch`` concurrent requests."""
    noise = Random(f"{seed} {prompt}")
    texts = [random_text(noise, prompt, _VOCABULARY) for _ in range(batch)]
    started = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for text in texts:
            request = GenerationRequest("", 0, 0, "target", Transcript(text), SEPARATOR, written, 0.0, 1.0, 0)
            tasks.start_soon(generator.generate, request)
    return time.perf_counter() - started
