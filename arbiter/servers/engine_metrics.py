"""What an engine says of itself at ``/metrics``: Prometheus' text, and the few figures of it that people look at."""

import math
import re
from collections.abc import Iterable

import msgspec

from arbiter.config.server_tables import Program

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?[ \t]+(?P<value>\S+)(?:[ \t]+-?\d+)?")
_RANK = re.compile(r'(?:^|,)\s*(?:tp|pp|moe_ep)_rank="(?P<rank>\d+)"')


class MetricNames(msgspec.Struct, frozen=True):
    """The names of an engine's metrics; all but the first two only grow."""

    running: str
    queued: str
    read: str
    written: str
    looked_up: str
    cached: str


NAMES: dict[Program, MetricNames] = {
    "sglang": MetricNames(
        running="sglang:num_running_reqs",
        queued="sglang:num_queue_reqs",
        read="sglang:prompt_tokens_total",
        written="sglang:generation_tokens_total",
        looked_up="sglang:prompt_tokens_total",
        cached="sglang:cached_tokens_total",
    ),
    "vllm": MetricNames(
        running="vllm:num_requests_running",
        queued="vllm:num_requests_waiting",
        read="vllm:prompt_tokens_total",
        written="vllm:generation_tokens_total",
        looked_up="vllm:prefix_cache_queries_total",
        cached="vllm:prefix_cache_hits_total",
    ),
}
"""llama.cpp's Python server tells nothing."""


class EngineMetrics(msgspec.Struct, frozen=True):
    """A server at a moment: requests that run and that wait, and tokens since it began; ``None`` where it is silent.

    ``cached`` are the tokens, of those ``looked_up``, that came out of the prefix cache.
    """

    running: float | None = None
    queued: float | None = None
    read: float | None = None
    written: float | None = None
    looked_up: float | None = None
    cached: float | None = None

    @property
    def hit_rate(self) -> float | None:
        """The share of what was looked up that the prefix cache had; None before that is told."""
        return self.cached / self.looked_up if self.looked_up and self.cached is not None else None


def figures(program: Program, text: str) -> EngineMetrics:
    """The figures of an engine from the ``text`` at its ``/metrics``."""
    names = NAMES.get(program)
    if names is None:
        return EngineMetrics()
    wanted = msgspec.structs.asdict(names)
    sums = _sums(text, set(wanted.values()))
    return EngineMetrics(**{field: sums.get(name) for field, name in wanted.items()})


def _sums(text: str, names: Iterable[str]) -> dict[str, float]:
    """The sum of each metric over its labels: an engine's data parallel parts count apart.

    Ranks that share a model tell the same figures each, so that of these the first alone counts.
    """
    found: dict[str, float] = {}
    for line in text.splitlines():
        sample = _SAMPLE.fullmatch(line.strip())
        if sample is None or sample["name"] not in names:
            continue
        if any(rank["rank"] != "0" for rank in _RANK.finditer(sample["labels"] or "")):
            continue
        try:
            value = float(sample["value"])
        except ValueError:
            continue
        if math.isfinite(value):
            found[sample["name"]] = found.get(sample["name"], 0.0) + value
    return found
