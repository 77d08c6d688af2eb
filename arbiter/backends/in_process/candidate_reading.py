"""Read a candidate with the draft in process: log-probabilities, entropies and the last hidden state.

The draft's own engine reads it, so the keys and values of the context are those that it kept from writing.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (torch is typed in part)

from collections.abc import Sequence

import msgspec
import torch

from arbiter.backends.draft_features import CandidateReading
from arbiter.backends.in_process.continuous_batching import Outputs
from arbiter.protocols.records import Usage


class ReadRequest(msgspec.Struct, frozen=True):
    """A prompt and a candidate, each of at least one token, and whether the hidden state is needed."""

    prompt: Sequence[int]
    candidate: Sequence[int]
    hidden: bool = True


class ReadRow:
    """A candidate while it is read. It is finished when it is read."""

    def __init__(self, ask: ReadRequest) -> None:
        self.ids = [*ask.prompt, *ask.candidate]
        self.read = self.reused = 0
        self.shown = len(ask.candidate) + 1  # the output before a token is its distribution
        self.longest = len(self.ids)
        self._candidate = ask.candidate
        self._needs_hidden = ask.hidden
        self._logprobs: list[float] = []
        self._entropies: list[float] = []
        self._hidden: list[float] = []

    def advance(self, outputs: Outputs, first: int) -> bool:
        count = len(self._candidate)
        distributions = outputs.part(first, count)
        tokens = torch.tensor(self._candidate, device=distributions.values.device)
        self._logprobs = distributions.logprobs.gather(-1, tokens[:, None])[:, 0].tolist()
        self._entropies = distributions.entropies
        if self._needs_hidden:
            self._hidden = outputs.hidden[first + count].tolist()
        return True

    def answer(self) -> CandidateReading:
        usage = Usage(prompt_tokens=len(self.ids), cached_tokens=self.reused)
        return CandidateReading(self._logprobs, self._entropies, self._hidden, usage)
