"""Makes the record of a step from its candidates and the policy's decision. Pure functions."""

import msgspec

from arbiter.actors.policies import best_target
from arbiter.protocols.records import Candidate, Glimpse, StepRecord, Verdict


def regenerated_record(
    draft: Candidate | None, targets: tuple[Candidate, ...], glimpse: Glimpse | None = None
) -> StepRecord:
    """Return the record of a step that the target wrote: alone, after a ``glimpse``, or in place of a ``draft``."""
    if draft is None:
        return StepRecord(targets, 0, None if glimpse is None else "escalate", glimpse=glimpse)
    return StepRecord((draft, *targets), 1, "escalate", glimpse=glimpse)


def drafted_record(draft: Candidate, glimpse: Glimpse | None) -> StepRecord:
    """Return the record of a step that the draft wrote alone, or after a ``glimpse``."""
    return StepRecord((draft,), 0, None if glimpse is None else "keep_draft", glimpse=glimpse)


def chosen_record(verdict: Verdict, draft: Candidate | None, targets: tuple[Candidate, ...]) -> StepRecord:
    """Return the record of a step for which the policy kept an existing candidate."""
    candidates = (*((draft,) if draft else ()), *targets)
    kept = draft if verdict == "keep_draft" else best_target(targets)
    index = next(i for i, candidate in enumerate(candidates) if candidate is kept)
    return StepRecord(candidates=candidates, chosen=index, verdict=verdict)


def same_score_for_same_text(draft: Candidate, target: Candidate) -> Candidate:
    """Return ``target``, with the draft's score if both wrote the same text: h(x, z) is a function of the text.

    The scores of two requests for the same text can differ in the last digits, because they are computed in different
    batches. A rounding difference must not count as an advantage.
    """
    if target.text != draft.text or target.rating is None or draft.rating is None:
        return target
    rating = msgspec.structs.replace(target.rating, value=draft.rating.value)
    return msgspec.structs.replace(target, rating=rating)
