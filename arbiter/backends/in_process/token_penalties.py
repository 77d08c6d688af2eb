"""Presence and frequency penalties of models in process, as OpenAI defines them, over the whole answer so far."""

from collections import Counter
from collections.abc import Iterable

from torch import Tensor


class TokenPenalties:
    """The penalties of a row. ``written`` are the tokens of the answer before it."""

    def __init__(self, presence: float, frequency: float, written: Iterable[int]) -> None:
        self._presence = presence
        self._frequency = frequency
        self._counts = Counter(written)

    def take(self, token: int) -> None:
        """Note the next token."""
        self._counts[token] += 1

    def applied(self, logits: Tensor) -> Tensor:
        """Return the logits of one token, ``[vocabulary]``, less the penalties of the tokens that were written."""
        if not self._counts:
            return logits
        counts = logits.new_tensor([*self._counts.values()])
        ids = logits.new_tensor([*self._counts]).long()
        return logits.index_add(0, ids, -(self._presence + self._frequency * counts))
