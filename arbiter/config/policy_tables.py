"""The tables of run types that have more settings than a threshold."""

from typing import Annotated, Literal

import msgspec

from arbiter.actors.beliefs import BeliefConfidence, BeliefEscalation, BeliefReward, StepModel
from arbiter.actors.glimpses import GlimpsedEscalation
from arbiter.actors.pacing import (
    AllowanceUnit,
    PacedConfidence,
    PacedEscalation,
    PacedJudge,
    PacedReward,
    PacedRouter,
)
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.config.base import ConfigTable, Count
from arbiter.config.run_tables import RunType
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Author, ConfidenceMetric

HESITATION = ("wait", "hmm", "hold on", "alternatively")
"""Words with which reasoning models begin to doubt what they wrote."""

TABLES: dict[RunType, str] = {"trigger": "trigger.", "paced": "pacing.", "glimpse": "glimpse.", "pomdp": "pomdp."}
"""How the keys of the tables here begin, by the only run type that reads them."""

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Score = Literal["confidence", "router", "prm", "judge"]


class TriggerTable(ConfigTable, frozen=True):
    """The triggers of the run type ``trigger``. [Triggers](../explanation/triggers.md) has the rule and an example."""

    first: Annotated[int, msgspec.Meta(ge=0)] = 1
    """How many steps the target writes at the beginning of a problem, without a draft."""
    unsure: Share = 0.0
    """A draft with a confidence below this is escalated. 0: none is."""
    words: tuple[str, ...] = HESITATION
    """Words or phrases of hesitation. Case does not count. Empty: no draft is escalated for its words."""
    consecutive: Count = 1
    """How many drafts in a row must have such a word before the last of them is escalated."""

    def check(self, source: str, record: str) -> None:
        """Raise ``ConfigError`` naming ``source`` if a word is blank, or if the log would lack the texts of drafts."""
        if any(not word.strip() for word in self.words):
            raise ConfigError(f"{source}: trigger.words has a blank word: remove it, or set words = [] for no words")
        if self.words and record != "full":
            raise ConfigError(
                f"{source}: log.record is {record!r}, and the run type 'trigger' reads the words of drafts, which a "
                "replay of such a log could not: set log.record to 'full', or trigger.words to []"
            )

    def policy(self, threshold: float, confidence: ConfidenceMetric) -> TriggeredEscalation:
        """Return the policy with these triggers."""
        return TriggeredEscalation(threshold, self.first, self.unsure, self.words, self.consecutive, confidence)


class GlimpseTable(ConfigTable, frozen=True):
    """The token by which the run type ``glimpse`` decides. [Glimpses](../explanation/glimpses.md) has the rule."""

    model: Author = "draft"
    """The model that writes the first token of each step, with log-probabilities: ``draft`` or ``target``."""

    def check(self, source: str, lookahead: int | str, block: int) -> None:
        """Raise ``ConfigError`` naming ``source`` if steps would be drafted before the glimpse of them."""
        key = "lookahead" if lookahead != 0 else "block" if block > 1 else None
        if key is not None:
            raise ConfigError(
                f"{source}: {key} drafts steps ahead, and the run type 'glimpse' decides before a step is drafted: "
                f"leave {key} (--{key}) out"
            )

    def policy(self, threshold: float, budget: float | None) -> GlimpsedEscalation:
        """Return the policy that decides by this token."""
        return GlimpsedEscalation(threshold, self.model, budget)


class PacingTable(ConfigTable, frozen=True):
    """The allowance of each problem of the run type ``paced``. [Pacing](../explanation/pacing.md) has the rule."""

    score: Score = "confidence"
    """What rates the risk of a draft: its own confidence, the router, the PRM or the judge."""
    allowance: Count = 200
    """How much of the target's work a problem may use, in ``unit``."""
    unit: AllowanceUnit = "tokens"
    """What the allowance counts: ``tokens`` that the target writes, kept or not, or ``escalations``."""
    steps: Count = 10
    """The planned number of steps of a problem. After them, the rest of the allowance is for every further step."""

    def policy(self, threshold: float, confidence: ConfidenceMetric) -> PacedEscalation:
        """Return the policy with this allowance."""
        match self.score:
            case "confidence":
                return PacedConfidence(threshold, self.allowance, self.unit, self.steps, confidence)
            case "router":
                return PacedRouter(threshold, self.allowance, self.unit, self.steps)
            case "prm":
                return PacedReward(threshold, self.allowance, self.unit, self.steps)
            case "judge":
                return PacedJudge(threshold, self.allowance, self.unit, self.steps)


class BeliefTable(ConfigTable, frozen=True):
    """How often steps are right, for the run type ``pomdp``. ``arbiter fit`` learns it from collected rows.

    [Beliefs](../explanation/beliefs.md) has the rule. The defaults are stated, not learned.
    """

    score: Literal["confidence", "prm"] = "confidence"
    """The score of a draft: its own confidence, or its process reward."""
    draft_right: Share = 0.8
    """The probability that a step of the draft is right, if all steps before it are."""
    target_right: Share = 0.95
    """The same of a step of the target."""
    edges: tuple[float, ...] = (0.5, 0.8, 0.95)
    """The scores, rising between 0 and 1, that divide all scores into bins."""
    right: tuple[float, ...] = (0.05, 0.15, 0.3, 0.5)
    """The probability of each bin for a draft that is right. They add up to 1."""
    wrong: tuple[float, ...] = (0.35, 0.3, 0.2, 0.15)
    """The probability of each bin for any other draft."""
    target_by_bin: tuple[float, ...] = ()
    """``target_right`` for each bin of the draft's score. Empty: the same in all bins."""
    steps: Count = 10
    """The planned number of steps of a problem. Every step after them counts as the last one."""

    def check(self, source: str) -> None:
        """Raise ``ConfigError`` naming ``source`` and the key if the probabilities cannot be."""
        try:
            self._model.check()
        except ConfigError as error:
            raise ConfigError(f"{source}: pomdp.{error}") from error

    def policy(self, threshold: float, confidence: ConfidenceMetric) -> BeliefEscalation:
        """Return the policy with this model of steps."""
        if self.score == "prm":
            return BeliefReward(threshold, self._model, self.steps)
        return BeliefConfidence(threshold, self._model, self.steps, confidence)

    @property
    def _model(self) -> StepModel:
        return StepModel(self.draft_right, self.target_right, self.edges, self.right, self.wrong, self.target_by_bin)
