"""The costs of an endpoint as its metrics and its live page show them."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from arbiter.gateway.shadows import Shadows
from arbiter.gateway.spending import Spending


class CostReport(Collector):
    """The costs since the start, as metrics (``collect``) and for the live page (``contents``)."""

    def __init__(self, spending: Spending, shadows: Shadows) -> None:
        self._spending = spending
        self._shadows = shadows

    def contents(self) -> dict[str, Any] | None:
        """Return the costs for the live page; None if no model with a price has answered."""
        spending, sums = self._spending, self._shadows.sums
        if not spending.by_model:
            return None
        return {
            "total": spending.total,
            "target_alone_estimated": spending.target_alone,
            "ratio_estimated": spending.ratio,
            "ratio_measured": sums.ratio,
            "shadows": sums.measured,
        }

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        spending, sums = self._spending, self._shadows.sums
        yield _counter("cost", "Cost of answered requests at the configured prices", "model", spending.by_model)
        estimate = CounterMetricFamily(
            "arbiter_target_alone_estimated_cost", "Estimated cost of the target alone for the kept steps"
        )
        estimate.add_metric([], spending.target_alone)
        yield estimate
        outcomes = {name: getattr(sums, name) for name in ("measured", "failed", "displaced", "skipped")}
        yield _counter("shadows", "Answered questions drawn for the target alone, by outcome", "outcome", outcomes)
        costs = {name: getattr(sums, name) for name in ("answers", "estimated", "target_alone", "spent")}
        text = "Costs of measured shadows: the answers, the estimate and the measure of the target alone; all spent"
        yield _counter("shadow_cost", text, "kind", costs)
        for name, ratio in (("estimated", spending.ratio), ("measured", sums.ratio)):
            if ratio is not None:
                text = f"Cost of the answers as a share of the {name} cost of the target alone"
                yield GaugeMetricFamily(f"arbiter_cost_ratio_{name}", text, value=ratio)


def _counter(name: str, text: str, label: str, values: dict[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"arbiter_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
