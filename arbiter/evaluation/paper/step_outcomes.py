"""The outcome of each step of a run: kept, or escalated and improved, wasted or harmed, as judged by the PRM."""

from collections.abc import Iterable

from arbiter.evaluation.calibration import EQUAL
from arbiter.protocols.records import Record, StepRecord
from arbiter.runs.results import Result


class StepOutcomes(Record, frozen=True):
    """Shares of a run's judged steps, which sum to 1. None if no step was judged.

    ``kept`` drafts were not escalated. An escalated step is ``improved`` if the target's step has a higher process
    reward than the draft, ``harmed`` if it has a lower one, and ``wasted`` if both are equal up to rounding.
    """

    judged: int
    kept: float | None = None
    improved: float | None = None
    wasted: float | None = None
    harmed: float | None = None


def steps_of(results: Iterable[Result]) -> StepOutcomes:
    """Return the outcomes over all steps. A step is judged if its draft was kept or both candidates have rewards."""
    counts = {"kept": 0, "improved": 0, "wasted": 0, "harmed": 0}
    for result in results:
        for step in result.solution.steps:
            outcome = _outcome(step)
            if outcome is not None:
                counts[outcome] += 1
    judged = sum(counts.values())
    return (
        StepOutcomes(judged, **{name: count / judged for name, count in counts.items()}) if judged else StepOutcomes(0)
    )


def _outcome(step: StepRecord) -> str | None:
    if step.draft is None:  # the target alone
        return None
    if step.kept.author == "draft":
        return "kept"
    advantage = _advantage(step)
    if advantage is None:
        return None
    return "improved" if advantage > EQUAL else "harmed" if advantage < -EQUAL else "wasted"


def _advantage(step: StepRecord) -> float | None:
    """Return Δ of an escalated step, from its audit or from the scores that selected it."""
    if step.audit is not None:
        return step.audit.target - step.audit.draft
    draft = step.draft
    if draft is None or draft.score is None or step.kept.score is None:
        return None
    return step.kept.score - draft.score
