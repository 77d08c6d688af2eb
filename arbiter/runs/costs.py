"""What tokens cost at the configured prices, and an estimate of what the target alone would have cost."""

from collections.abc import Mapping, Sequence

from arbiter.config.config import Config
from arbiter.config.model_tables import DraftHeadTable, PriceTable, first_target
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Candidate, Solution, StepRecord, Usage, table_name

Prices = Mapping[str, PriceTable]
"""The prices by model: its key below ``models.``. If there are several targets, ``target`` is the first."""


def prices_of(config: Config) -> dict[str, PriceTable]:
    """Return the configured prices. A head on the draft has those of the draft."""
    tables = config.models.configured()
    first = first_target(tables)
    draft = config.models.draft
    prices = {
        name: price
        for name, table in tables.items()
        if (price := (draft and draft.price) if isinstance(table, DraftHeadTable) else table.price)
    }
    return {**prices, "target": prices[first]} if first in prices else prices


def require_prices(config: Config, prices: Prices, key: str) -> None:
    """Raise ``ConfigError`` naming ``key``, which needs prices, if a model of the configuration has none."""
    tables = config.models.configured()
    missing = next((name for name in tables if name not in prices), None)
    if missing is not None or not tables:
        what = f"models.{missing} has none" if missing else "the configuration has no models"
        raise ConfigError(
            f"{key} needs the prices of all models, and {what}: set price = {{ prompt = …, completion = … }} in its "
            "table; a model that costs nothing has prices of 0"
        )


def priced(usage: Usage, price: PriceTable | None) -> float | None:
    """Return what tokens cost; None without a price."""
    if price is None:
        return None
    cached = price.prompt if price.cached is None else price.cached
    read = (usage.prompt_tokens - usage.cached_tokens) * price.prompt + usage.cached_tokens * cached
    return (read + usage.completion_tokens * price.completion) / 1_000_000


def price_of(model: str, prices: Prices) -> PriceTable | None:
    """Return the price of a model, as requests name it: ``audit`` is the PRM."""
    return prices.get(table_name(model))


def solution_cost(solution: Solution, prices: Prices) -> float | None:
    """Return what the answered requests of a problem cost, audits included; None if one of its models has no price."""
    counts = {model: counts for model, counts in solution.requests.items() if model != "target" or not solution.targets}
    named = {f"targets.{name}": counts for name, counts in solution.targets.items()}
    costs = [priced(each.usage, price_of(model, prices)) for model, each in {**counts, **named}.items()]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def target_alone(steps: Sequence[StepRecord], prices: Prices) -> float | None:
    """Estimate what the target alone would have cost for an answer with these kept steps.

    The target would have read the question once and written the kept tokens, in one request. Tokens are counted by
    the model that wrote them. None without steps, or without a price of the target.
    """
    price = prices.get("target")
    if price is None or not steps:
        return None
    return sum(step_alone(step, index == 0, price) for index, step in enumerate(steps))


def step_alone(step: StepRecord, is_first: bool, price: PriceTable) -> float:
    """Return the part of a step in ``target_alone``. The first one has the reading of the question."""
    read = _reader(step).usage if is_first else Usage()
    whole = Usage(read.prompt_tokens, step.kept.usage.completion_tokens, read.cached_tokens)
    return priced(whole, price) or 0.0


def _reader(step: StepRecord) -> Candidate:
    """Return the candidate whose request read the question alone: the target's, unless it also read a draft."""
    alone = (candidate for candidate in step.targets if candidate.prefix_match is None)
    return next(alone, None) or step.draft or step.kept
