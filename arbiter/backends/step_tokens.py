"""A step as its model writes it, token by token: where it ends, and how far a proposal of it was right.

Pure, and the same for models in process and behind servers.
"""

from collections.abc import Sequence, Set
from typing import Any

from arbiter.protocols.records import PrefixMatch, StopReason


class StepTokens:
    """The tokens of one step so far. ``ending`` says why it stopped, once it has.

    The step ends at a token of ``ends``, at ``separator`` wherever that begins and ends in the tokens, or with the
    ``room``-th token. ``tokenizer`` is one of transformers.
    """

    def __init__(self, tokenizer: Any, separator: str, ends: Set[int], room: int) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self._separator = separator
        self._ends = ends
        self._room = room
        self.tokens: list[int] = []
        self.ending: StopReason | None = None
        self.text = ""

    def take(self, tokens: Sequence[int]) -> bool:
        """Append tokens up to the step's end. True if they have ended it; after its end it takes none."""
        if self.ending is not None:
            return False
        for token in tokens:
            self.tokens.append(token)
            if self._ended(token):
                return True
        return False

    def close(self, ending: StopReason) -> None:
        """The model says itself that the step is over; the tokens do not."""
        self.ending, self.text = ending, self._decoded(self.tokens)

    def _ended(self, token: int) -> bool:
        if token in self._ends:
            self.ending, self.text = "end", self._decoded(self.tokens[:-1])
        elif self._separator in self._decoded(self.tokens[-len(self._separator.encode()) :]):
            # each token holds one byte or more, so a separator that ends here lies in that tail
            self.ending, self.text = "separator", self._decoded(self.tokens).partition(self._separator)[0]
        elif len(self.tokens) == self._room:
            self.close("limit")
        return self.ending is not None

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def proposed_tokens(tokenizer: Any, text: str, ending: StopReason, separator: str, room: int) -> list[int]:  # noqa: ANN401
    """A proposed step in the tokens of the model that checks it; one fewer than it has ``room`` for, its own.

    The proposal is tokenised apart from its context, which stays as it would be without. If these are not the tokens
    that the model would write the same text in, it agrees with fewer of them: nothing else depends on it.
    """
    written = text + separator if ending == "separator" else text
    tokens: list[int] = tokenizer(written, add_special_tokens=False)["input_ids"]
    return tokens[: max(room - 1, 0)]


def agreed_tokens(proposed: Sequence[int], own: Sequence[int]) -> list[int]:
    """What the model would have written itself: the longest beginning of ``proposed`` that is its own, and the next.

    ``own`` are its choices at each position after what is before it in ``proposed``: one more than that has.
    """
    agreed = next((place for place, token in enumerate(proposed) if token != own[place]), len(proposed))
    return [*proposed[:agreed], own[agreed]]


def agreement(proposed: Sequence[int], step: StepTokens) -> PrefixMatch:
    """How many tokens were proposed, and how many of them are the step's."""
    pairs = zip(proposed, step.tokens, strict=False)
    agreed = next((place for place, (theirs, own) in enumerate(pairs) if theirs != own), None)
    return PrefixMatch(len(proposed), min(len(proposed), len(step.tokens)) if agreed is None else agreed)
