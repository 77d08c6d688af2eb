"""Remembers the log-probabilities of the steps that a served draft has just written, for a head on the draft."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from arbiter.backends.served.logprobs import Logprobs, written_tokens

ENTRIES = 4096
"""How many steps are remembered. That is more than the drafts in flight, with those that are drafted ahead."""


class WrittenStep(msgspec.Struct, frozen=True):
    """The texts of the tokens that a model wrote, separator included, and their log-probabilities."""

    tokens: Sequence[str]
    logprobs: Sequence[float]


class DraftMemory:
    """The steps that a draft wrote last, by the exact text of the context and of the step.

    It holds at most ``entries`` steps; the step that was used least recently goes first. With 0 it remembers nothing.
    """

    def __init__(self, entries: int = ENTRIES) -> None:
        self._entries = entries
        self._steps: OrderedDict[bytes, WrittenStep] = OrderedDict()

    def keep(self, context: str, step: str, separator: str, logprobs: Logprobs) -> None:
        """Remember ``step``, written at temperature 0. Without a log-probability for each token, forget it."""
        key = _key(context, step, separator)
        found = written_tokens(logprobs, step + separator)
        known = [logprob for _, logprob in found if logprob is not None]
        self._steps.pop(key, None)
        if found and len(known) == len(found):
            self._steps[key] = WrittenStep([token for token, _ in found], known)
        while len(self._steps) > self._entries:
            self._steps.popitem(last=False)

    def find(self, context: str, step: str, separator: str) -> WrittenStep | None:
        """Return what is remembered of ``step`` in ``context``; None if it is not remembered."""
        key = _key(context, step, separator)
        found = self._steps.get(key)
        if found is not None:
            self._steps.move_to_end(key)
        return found


def _key(context: str, step: str, separator: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for text in (context, step, separator):
        data = text.encode(errors="replace")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
