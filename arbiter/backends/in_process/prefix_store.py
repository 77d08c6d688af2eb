"""Keys and values of texts that were read, by their token ids. A prefix that several texts share is stored once.

The texts form a tree. Each node holds the keys and values of a run of tokens; a text is the path to its node. When the
limit is reached, the least recently used leaves are dropped.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor


class _Node:
    """A run of tokens. ``kv`` has their keys and values; their number is the length of its axis ``_AXIS``."""

    __slots__ = ("children", "kv", "parent", "tokens")

    def __init__(self, tokens: tuple[int, ...], kv: Tensor | None, parent: "_Node | None") -> None:
        self.tokens = tokens
        self.kv = kv
        self.parent = parent
        self.children: dict[int, _Node] = {}


_AXIS = 3


class PrefixStore:
    """Holds up to ``limit`` bytes. The limit may change at any time; ``trim`` applies it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._root = _Node((), None, None)
        # In order of their last use. A node counts as used after its children, so the first one is always a leaf.
        self._used: OrderedDict[_Node, None] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of tokens that are stored."""
        return sum(len(node.tokens) for node in self._used)

    def find(self, ids: Sequence[int], most: int) -> list[Tensor]:
        """Return the keys and values of the longest stored prefix of ``ids``, cut after ``most`` tokens, in pieces."""
        path = self._walk(ids)
        self._touch(path[-1][0] if path else self._root)
        pieces: list[Tensor] = []
        for node, matched in path:
            kept = min(matched, most)
            if kept:
                pieces.append(_kv(node)[:, :, :, :kept])
            most -= kept
        return pieces

    def stored(self, ids: Sequence[int]) -> int:
        """Return how many of the first tokens of ``ids`` are stored; those after them are not."""
        return sum(matched for _, matched in self._walk(ids))

    def add(self, ids: Sequence[int], start: int, kv: Tensor) -> None:
        """Store the keys and values of ``ids[start:]``. ``ids[:start]`` must be stored, as ``stored`` reports."""
        path = self._walk(ids)
        node, matched = path[-1] if path else (self._root, 0)
        if matched < len(node.tokens):
            node = self._split(node, matched)
        tail = tuple(ids[start:])
        if tail:
            leaf = _Node(tail, kv, node)
            node.children[tail[0]] = leaf
            self.bytes += kv.nbytes
            node = leaf
        self._touch(node)
        self.trim()

    def trim(self) -> None:
        """Drop the least recently used leaves until the limit holds."""
        while self.bytes > self.limit and self._used:
            node, _ = self._used.popitem(last=False)
            parent = node.parent
            assert parent is not None  # noqa: S101 - only the root has none, and it is never in use
            del parent.children[node.tokens[0]]
            self.bytes -= _kv(node).nbytes

    def _walk(self, ids: Sequence[int]) -> list[tuple[_Node, int]]:
        """Return the nodes on the way along ``ids``, each with the number of its tokens that match (at least 1)."""
        path: list[tuple[_Node, int]] = []
        node, start = self._root, 0
        while start < len(ids) and (child := node.children.get(ids[start])) is not None:
            matched = _common(child.tokens, ids, start)
            path.append((child, matched))
            if matched < len(child.tokens):
                break
            node, start = child, start + matched
        return path

    def _split(self, node: _Node, at: int) -> _Node:
        """Divide ``node`` before its token ``at``. Return the new node of its first tokens."""
        kv, parent = _kv(node), node.parent
        assert parent is not None  # noqa: S101 - the root has no tokens to split
        first = _Node(node.tokens[:at], kv[:, :, :, :at].clone(), parent)
        parent.children[node.tokens[0]] = first
        node.tokens, node.kv, node.parent = node.tokens[at:], kv[:, :, :, at:].clone(), first
        first.children[node.tokens[0]] = node
        return first

    def _touch(self, node: _Node) -> None:
        while node.parent is not None:
            self._used[node] = None
            self._used.move_to_end(node)
            node = node.parent


def _kv(node: _Node) -> Tensor:
    assert node.kv is not None  # noqa: S101 - only the root has none
    return node.kv


def _common(tokens: tuple[int, ...], ids: Sequence[int], start: int) -> int:
    """Return how many of ``tokens`` equal those of ``ids`` from ``start`` on."""
    end = min(len(tokens), len(ids) - start)
    if tokens[:end] == tuple(ids[start : start + end]):
        return end
    return next(index for index in range(end) if tokens[index] != ids[start + index])
