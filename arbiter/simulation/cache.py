"""What a server remembers of the texts it has read and written: a prefix cache with a bounded number of tokens."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class CachedText(NamedTuple):
    """A piece of a context, such as a question or a step: ``key`` is what it says, ``tokens`` how long it is."""

    key: str
    tokens: int


class PrefixCache:
    """Holds at most ``budget`` tokens of contexts, shared where they begin alike; the longest unused go first.

    Texts are remembered whole or not at all. What two of them have in common at their beginning is known only where it
    is asked for as a piece of its own.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._nodes: OrderedDict[tuple[int, str], tuple[int, int]] = OrderedDict()  # (parent, key): (node, tokens)
        self._last = 0
        self.tokens = 0
        self.evicted = 0

    def known(self, context: Iterable[CachedText]) -> int:
        """Tokens at the beginning of ``context`` that need not be read again."""
        parent = tokens = 0
        for text in context:
            node = self._nodes.get((parent, text.key))
            if node is None:
                break
            parent, tokens = node[0], tokens + text.tokens
        return tokens

    def remember(self, context: Sequence[CachedText]) -> None:
        """``context`` was just used."""
        path, parent = list[tuple[int, str]](), 0
        for text in context:
            place = (parent, text.key)
            if place not in self._nodes:
                self._last += 1
                self._nodes[place] = (self._last, text.tokens)
                self.tokens += text.tokens
            path.append(place)
            parent = self._nodes[place][0]
        for place in reversed(path):  # the end first: whatever is evicted, nothing that continues it is left
            self._nodes.move_to_end(place)
        while self.tokens > self._budget:
            _, (_, tokens) = self._nodes.popitem(last=False)
            self.tokens -= tokens
            self.evicted += tokens
