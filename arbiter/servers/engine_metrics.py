"""The metrics that an engine reports at ``/metrics`` as Prometheus text, and the few that the status table shows."""

import math
import re
from collections.abc import Iterable

import msgspec

from arbiter.config.server_tables import Program

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?[ \t]+(?P<value>\S+)(?:[ \t]+-?\d+)?")
_RANK = re.compile(r'(?:^|,)\s*(?:tp|pp|moe_ep)_rank="(?P<rank>\d+)"')


class MetricNames(msgspec.Struct, frozen=True):
    """The names of an engine's metrics. The first two are gauges, the others counters of tokens."""

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
"""The metric names of each engine. The Python server of llama.cpp has no metrics."""


class EngineMetrics(msgspec.Struct, frozen=True):
    """The metrics of a server at one moment: running and queued requests, and tokens since its start.

    ``None``: the server does not report the value. ``cached`` counts those of the ``looked_up`` tokens that the prefix
    cache had.
    """

    running: float | None = None
    queued: float | None = None
    read: float | None = None
    written: float | None = None
    looked_up: float | None = None
    cached: float | None = None

    @property
    def hit_rate(self) -> float | None:
        """The share of the looked-up tokens that the prefix cache had; None until the server reports both counts."""
        return self.cached / self.looked_up if self.looked_up and self.cached is not None else None


def figures(program: Program, text: str) -> EngineMetrics:
    """Return the metrics in ``text``, the content of the engine's ``/metrics``."""
    names = NAMES.get(program)
    if names is None:
        return EngineMetrics()
    fields = msgspec.structs.asdict(names)
    sums = _sums(text, set(fields.values()))
    return EngineMetrics(**{field: sums.get(name) for field, name in fields.items()})


def _sums(text: str, names: Iterable[str]) -> dict[str, float]:
    """Return the sum of each metric over its labels, because data-parallel parts report separately.

    All ranks that share one model report the same values, so only rank 0 is counted.
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
