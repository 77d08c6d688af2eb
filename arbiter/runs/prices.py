"""The cost of tokens at the configured prices."""

from arbiter.config.model_tables import PriceTable
from arbiter.protocols.records import Usage


def priced(usage: Usage, price: PriceTable | None) -> float | None:
    """Return the cost of the tokens of ``usage``; None without a price."""
    if price is None:
        return None
    cached = price.prompt if price.cached is None else price.cached
    read = (usage.prompt_tokens - usage.cached_tokens) * price.prompt + usage.cached_tokens * cached
    return (read + usage.completion_tokens * price.completion) / 1_000_000
