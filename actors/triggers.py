"""The policy that escalates where a trigger fires: at the first steps, at hesitation, and at unusual confidence.

The triggers are those of *TrigReason: Trigger-Based Collaboration between Small and Large Reasoning Models* (arXiv
2604.14847): the large model writes the plan, a small model that is too sure is not trusted, and one that hesitates
gets help. ``docs/explanation/triggers.md`` says how the rules here differ.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from arbiter.actors.policies import PolicyBase
from arbiter.protocols.policy import Evidence
from arbiter.protocols.records import Author, Candidate, ConfidenceMetric, StepRecord, Verdict

Trigger = Literal["overconfident", "unsure", "hesitant"]
"""Why a draft is escalated.

- ``overconfident``: its confidence is above the threshold.
- ``unsure``: its confidence is below ``unsure``.
- ``hesitant``: it is the last of several drafts in a row that have a word of hesitation.
"""


class TriggeredEscalation(PolicyBase, frozen=True, tag="trigger"):
    """Escalate a draft if a trigger fires; else keep it. The target alone writes the ``first`` steps, without a draft.

    - ``threshold`` in [0, 1]: a draft with a confidence above it is overconfident. At 1 no draft is.
    - ``unsure`` in [0, 1]: a draft with a confidence below it is unsure. At 0 no draft is.
    - ``words``: a draft that has one of them hesitates. Case does not count; a word must stand alone.
    - ``consecutive``, 1 or more: how many drafts in a row must hesitate, the last of them being this one. A replaced
      draft begins the count anew.
    """

    threshold: float
    first: int = 1
    unsure: float = 0.0
    words: tuple[str, ...] = ()
    consecutive: int = 1
    confidence: ConfidenceMetric = "mean"

    escalates_above = True

    def proposes(self, step: int) -> tuple[Author, ...]:
        return ("target",) if step < self.first else self.proposers

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if self.trigger(evidence) is None else "escalate"

    def trigger(self, evidence: Evidence) -> Trigger | None:
        """Return the first trigger that fires, in the order of ``Trigger``; None if none does.

        Raises ``ValueError`` if the draft has no confidence.
        """
        confidence = self.score(evidence)
        if confidence > self.threshold:
            return "overconfident"
        if confidence < self.unsure:
            return "unsure"
        return "hesitant" if self._hesitates(evidence) else None

    def _hesitates(self, evidence: Evidence) -> bool:
        before = self.consecutive - 1
        if not self.words or len(evidence.history) < before or not hesitates(evidence.draft, self.words):
            return False
        return all(_kept_hesitant(record, self.words) for record in evidence.history[len(evidence.history) - before :])


def hesitates(draft: Candidate | None, words: Sequence[str]) -> bool:
    """Return whether ``draft`` has one of ``words``, standing alone, in any case."""
    return draft is not None and _pattern(tuple(words)).search(draft.text) is not None


def _kept_hesitant(record: StepRecord, words: Sequence[str]) -> bool:
    return record.verdict == "keep_draft" and hesitates(record.draft, words)


@lru_cache(maxsize=64)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", re.IGNORECASE)
