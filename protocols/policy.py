"""The policy: what it sees of a step, and what it decides."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

from arbiter.protocols.records import (
    Author,
    Candidate,
    ConfidenceMetric,
    Glimpse,
    Record,
    ScoreKind,
    StepRecord,
    Target,
    Verdict,
)


class Evidence(Record, frozen=True):
    """What a policy may use for a decision: the candidates with their scores, and their position in the problem.

    ``problem`` is the text on which random draws depend (``Task.seed_name``). ``step`` counts from 0, and ``seed`` is
    the seed of the task. ``draft`` is None if the policy does not use the draft model, or decides by a ``glimpse``.

    ``history`` has the record of each kept step before this one, in order: its candidates with their authors, tokens
    and scores, and the verdict. Audits are not in it, because they may end later. Steps with which the task started
    have no record. ``tokens_left`` is how many tokens the limit of the problem still allows.

    In a replay with other rules, all of it is that of the replay, not of the recorded run.

    A draft that breaks the rules of the answer is escalated before any policy decides about it.
    """

    problem: str
    step: int
    seed: int
    draft: Candidate | None
    targets: tuple[Candidate, ...] = ()
    history: tuple[StepRecord, ...] = ()
    tokens_left: int = 0
    glimpse: Glimpse | None = None

    @property
    def drafts(self) -> tuple[Candidate, ...]:
        """The drafts of the steps before this one, kept or not, without steps that had no draft."""
        return tuple(record.draft for record in self.history if record.draft is not None)

    @property
    def escalations(self) -> int:
        """The number of steps before this one that were escalated."""
        return sum(record.verdict == "escalate" for record in self.history)

    @property
    def target_tokens(self) -> int:
        """The number of tokens that the target or targets wrote in the steps before this one, kept or not."""
        return sum(written.usage.completion_tokens for record in self.history for written in record.targets)

    @property
    def valid(self) -> bool | None:
        """Whether the draft keeps the rules of the answer; None if no rule is about it."""
        return None if self.draft is None else self.draft.valid


class Policy(Protocol):
    """A pure rule: which models a step calls, and which candidate to keep. It uses no clock and makes no request.

    Derive a policy from ``PolicyBase`` (``arbiter.extending``), which has a default for every member but ``decide``. A
    policy without that base must define all members; if one is missing, the policy is refused with ``ConfigError``.

    Which models a step calls:

    - ``proposers`` are the authors that write a candidate of a step, concurrently, before the policy decides.
      ``proposes`` returns those of one step. A step that the target alone proposes is kept without a decision.
    - ``score_kind`` names the scorer that scores each candidate; None for no scorer.
    - ``decides`` is False for the one-model baselines, whose only candidate is kept without a decision.
    - ``targets`` are the targets that the policy may call, or their names; empty for one target without a name.
    - ``confidence`` is how the draft model measures its confidence in a step; None if the policy does not need it.
    - ``glimpse`` is the author of the first token by which the policy decides who writes a step; None if it decides
      about a whole draft. With a glimpse, ``decide`` sees no draft, and no scorer scores the step. A step for which
      ``proposes`` returns the target alone has no glimpse.

    How a budget is kept:

    - ``budget`` is the share of decided steps, between 0 and 1, that may be escalated; None for no budget. The ring
      keeps it by moving the threshold after each decision.
    - ``threshold`` is the initial threshold. ``score`` returns what the policy compares with it, in [0, 1].
    - ``escalates_above`` is True if a score above the threshold escalates, and False if a score below it does.
    - ``with_threshold`` returns the policy that decides at the moved threshold.
    """

    proposers: ClassVar[tuple[Author, ...]]
    score_kind: ClassVar[ScoreKind | None]
    decides: ClassVar[bool]

    @property
    @abstractmethod
    def targets(self) -> Sequence[Target | str]: ...
    @property
    @abstractmethod
    def confidence(self) -> ConfidenceMetric | None: ...
    @property
    @abstractmethod
    def glimpse(self) -> Author | None: ...
    @property
    @abstractmethod
    def budget(self) -> float | None: ...
    @property
    @abstractmethod
    def threshold(self) -> float | None: ...
    @property
    @abstractmethod
    def escalates_above(self) -> bool: ...

    @abstractmethod
    def proposes(self, step: int) -> tuple[Author, ...]:
        """Return the proposers of a step, from 0: all ``proposers``, or only the target."""
        ...

    @abstractmethod
    def decide(self, evidence: Evidence) -> Verdict:
        """Return which candidate to keep, or ``escalate``.

        ``escalate`` is only allowed if the target is not a proposer. An error fails only this problem.
        """
        ...

    @abstractmethod
    def score(self, evidence: Evidence) -> float:
        """Return what ``decide`` compares with the threshold. Raises ``ValueError`` if the evidence lacks it."""
        ...

    @abstractmethod
    def target(self, evidence: Evidence) -> str:
        """Return the name of the target that writes an escalated step; empty if there is one target, without a name."""
        ...

    @abstractmethod
    def with_threshold(self, threshold: float) -> "Policy":
        """Return the same policy with another threshold."""
        ...
