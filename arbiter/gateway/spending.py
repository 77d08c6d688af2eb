"""What the problems of an endpoint cost at the configured prices, counted with each answered request."""

from collections import defaultdict

from arbiter.gateway.spend_caps import SpendCaps
from arbiter.log.live import EventFolder, LiveProblem, model_of
from arbiter.protocols import events
from arbiter.protocols.records import StepRecord, table_name
from arbiter.runs.costs import Prices, price_of, priced, step_alone


class Spending(EventFolder):
    """Follow the events of an Arbiter and add up costs.

    ``by_model`` has the cost by model, as its key below ``models.``, without models that have no price. It includes
    steps that are not kept. ``target_alone`` estimates what the target alone would have cost for the kept steps.
    Failed and cancelled requests are not counted, because servers do not report their tokens. ``caps`` are charged with
    the costs of the problems for which a key pays.
    """

    def __init__(self, prices: Prices, caps: SpendCaps) -> None:
        super().__init__()
        self.by_model: defaultdict[str, float] = defaultdict(float)
        self.target_alone = 0.0
        self._prices = prices
        self._target = prices.get("target")
        self._caps = caps
        self._payers: dict[str, str] = {}

    @property
    def total(self) -> float:
        """The cost of all models."""
        return sum(self.by_model.values())

    @property
    def ratio(self) -> float | None:
        """The cost, as a share of the estimate for the target alone; None before the first kept step."""
        return self.total / self.target_alone if self.target_alone else None

    def pays(self, key: str, problem: str) -> None:
        """Let the key of this name pay for the problem, until ``paid``."""
        self._payers[problem] = key

    def paid(self, problem: str) -> None:
        """End the payments for the problem, whose request has ended."""
        self._payers.pop(problem, None)

    def call_ended(self, live: LiveProblem, call: events.CallStarted, outcome: events.Outcome) -> None:
        if isinstance(outcome, events.CallFailed | events.CallCancelled):
            return
        model = model_of(call)
        cost = priced(outcome.cost, price_of(model, self._prices))
        if cost is not None:
            self.by_model[table_name(model)] += cost
            if live.problem in self._payers:
                self._caps.charge(self._payers[live.problem], cost)

    def kept(self, live: LiveProblem, step: StepRecord, seconds: float) -> None:
        if self._target is not None:
            self.target_alone += step_alone(step, live.kept == 1, self._target)
