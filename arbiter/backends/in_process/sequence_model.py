"""What the engine needs of a model: to read tokens into slots, and to return its outputs at some of them."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from torch import Tensor

from arbiter.backends.in_process.kv_slots import KVSlots


class Chunk(msgspec.Struct, frozen=True):
    """Tokens to read in one pass: ``ids`` at the positions from ``start`` on, in ``slot``.

    The tokens before ``start`` were read into the same slot. Outputs are wanted for the last ``shown`` tokens.
    """

    slot: int
    start: int
    ids: Sequence[int]
    shown: int


class SequenceModel(Protocol):
    """A causal model that keeps keys and values in slots. All calls are made in one thread, in inference mode.

    ``context`` is the most tokens that a slot may hold. ``slots`` is None if the model cannot keep keys and values:
    the first chunk of a text is then all that is known of it.
    """

    @property
    def context(self) -> int: ...
    @property
    def slots(self) -> KVSlots | None: ...

    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """Read chunks of different slots. Return the last hidden states of the shown tokens: ``[shown, hidden]``."""
        ...

    def outputs(self, hidden: Tensor) -> Tensor:
        """Return the outputs for hidden states, ``[n, hidden]`` to ``[n, outputs]`` in float32.

        The outputs are the logits of the next token, or those of a classifier's labels.
        """
        ...

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first ``tokens`` tokens of slot ``source`` to slot ``target``; ``source`` is no longer used."""
        ...
