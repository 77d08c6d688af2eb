"""The costs of an endpoint: what is followed to know them, and how its metrics and its live page show them."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from arbiter.gateway.admission import Admission
from arbiter.gateway.shadows import Shadows
from arbiter.gateway.spend_caps import SpendCaps
from arbiter.gateway.spending import Spending
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError
from arbiter.runs.costs import prices_of, require_prices


class Costs(Collector):
    """The costs of an endpoint since its start, as metrics (``collect``) and for the live page (``contents``).

    ``prices`` are those of the configuration. ``caps`` limit what keys spend, ``spending`` adds up what problems cost,
    and ``shadows`` measure what the target alone would cost. Raises ``ConfigError`` if shadows or caps are configured
    and a model has no price, or if the Arbiter is already open.
    """

    def __init__(self, arbiter: Arbiter, admission: Admission) -> None:
        config, serve = arbiter.config, arbiter.config.serve
        self.prices = prices_of(config)
        settings = {
            "shadow": serve.shadow,
            "caps.per_minute": serve.caps.per_minute,
            "caps.per_day": serve.caps.per_day,
        }
        for key, value in settings.items():
            if value:
                require_prices(config, self.prices, f"serve.{key}")
        self.caps = SpendCaps(serve.caps)
        self.spending = Spending(self.prices, self.caps)
        self.shadows = Shadows(arbiter, admission, self.prices, serve.shadow)
        arbiter.watch(self.shadows)
        arbiter.on_close(self.shadows.cancel)
        self._arbiter = arbiter

    def check(self) -> None:
        """Raise ``ConfigError`` if shadows or caps need a model that the open Arbiter has not opened."""
        serve, run_types = self._arbiter.config.serve, self._arbiter.run_types
        if serve.shadow and "target" not in run_types:
            raise ConfigError("serve.shadow needs the target, which is not open: add target to --run-types")
        if serve.caps.at_cap == "draft" and "draft" not in run_types:
            raise ConfigError("serve.caps.at_cap needs the draft, which is not open: add draft to --run-types")

    def contents(self) -> dict[str, Any] | None:
        """Return the costs for the live page; None if no model with a price has answered."""
        spending, sums = self.spending, self.shadows.sums
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
        spending, sums = self.spending, self.shadows.sums
        yield _counter("cost", "Cost of answered requests at the configured prices", "model", spending.by_model)
        estimate = CounterMetricFamily(
            "arbiter_target_alone_estimated_cost", "Estimated cost of the target alone for the kept steps"
        )
        estimate.add_metric([], spending.target_alone)
        yield estimate
        outcomes = {name: getattr(sums, name) for name in ("measured", "failed", "displaced", "skipped")}
        yield _counter("shadows", "Answered questions drawn for the target alone, by outcome", "outcome", outcomes)
        yield GaugeMetricFamily("arbiter_shadows_running", "Shadows that are being solved", value=self.shadows.running)
        costs = {name: getattr(sums, name) for name in ("answers", "estimated", "target_alone", "spent")}
        text = "Costs of measured shadows: of their answers, of the target alone (estimated, measured), of all shadows"
        yield _counter("shadow_cost", text, "kind", costs)
        text = "Cost of the requests with each key; keys are named by their position"
        yield _counter("key_cost", text, "key", self.caps.spent)
        yield _counter("capped_requests", "Requests whose key had reached a spend cap", "key", self.caps.capped)
        for name, ratio in (("estimated", spending.ratio), ("measured", sums.ratio)):
            if ratio is not None:
                text = f"Cost of the answers as a share of the {name} cost of the target alone"
                yield GaugeMetricFamily(f"arbiter_cost_ratio_{name}", text, value=ratio)


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"arbiter_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
