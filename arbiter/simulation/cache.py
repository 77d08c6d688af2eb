"""A simulated prefix cache with a bounded number of tokens."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class CachedText(NamedTuple):
    """A piece of a context, such as a question or a step: ``key`` is its text, ``tokens`` its length."""

    key: str
    tokens: int


class PrefixCache:
    """Holds at most ``budget`` tokens of contexts, which share common prefixes. Evicts the least recently used first.

    Each text is cached as a whole or not at all. A prefix that two texts share counts as cached only if it is a
    separate piece of both.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._nodes: OrderedDict[tuple[int, str], tuple[int, int]] = OrderedDict()  # (parent, key): (node, tokens)
        self._last = 0
        self.tokens = 0
        self.evicted = 0

    def known(self, context: Iterable[CachedText]) -> int:
        """Return the number of tokens at the start of ``context`` that are cached."""
        parent = tokens = 0
        for text in context:
            node = self._nodes.get((parent, text.key))
            if node is None:
                break
            parent, tokens = node[0], tokens + text.tokens
        return tokens

    def remember(self, context: Sequence[CachedText]) -> None:
        """Add ``context``, or mark it as just used. Evict other texts as needed."""
        path, parent = list[tuple[int, str]](), 0
        for text in context:
            edge = (parent, text.key)
            if edge not in self._nodes:
                self._last += 1
                self._nodes[edge] = (self._last, text.tokens)
                self.tokens += text.tokens
            path.append(edge)
            parent = self._nodes[edge][0]
        for edge in reversed(path):  # last piece first, so that a text is evicted before the texts it continues
            self._nodes.move_to_end(edge)
        while self.tokens > self._budget:
            _, (_, tokens) = self._nodes.popitem(last=False)
            self.tokens -= tokens
            self.evicted += tokens
