"""Savings and cost of verified escalation (``--verify``), where the target reads rejected drafts."""

from collections.abc import Sequence

from arbiter.protocols.records import Candidate, Record


class VerificationSavings(Record, frozen=True):
    """Totals over verified escalations (``--verify``).

    - ``shown``: escalations in which the target read the rejected draft.
    - ``proposed``: tokens of those drafts. ``agreed``: those that the target kept.
    - ``tokens``: tokens of the resulting steps; the target wrote all but the ``agreed`` ones.
    - ``whole``: drafts that the target kept entirely.
    - ``break_even``: an estimate of how many tokens the target must keep until verifying takes no longer than writing.
      It is the cost of verifying, in tokens that the target could write in that time. None unless the run has
      escalations both with and without verifying.
    """

    shown: int = 0
    whole: int = 0
    proposed: int = 0
    agreed: int = 0
    tokens: int = 0
    break_even: float | None = None


def verified(rewritten: Sequence[Candidate]) -> VerificationSavings:
    """Return the totals over ``rewritten``, the candidates that the target wrote for rejected drafts."""
    shown = [(candidate, candidate.prefix_match) for candidate in rewritten if candidate.prefix_match is not None]
    tokens = sum(candidate.usage.completion_tokens for candidate, _ in shown)
    agreed = sum(agreement.matched for _, agreement in shown)
    return VerificationSavings(
        shown=len(shown),
        whole=sum(agreement.matched >= candidate.usage.completion_tokens - 1 for candidate, agreement in shown),
        proposed=sum(agreement.proposed for _, agreement in shown),
        agreed=agreed,
        tokens=tokens,
        break_even=_break_even(
            [candidate for candidate in rewritten if candidate.prefix_match is None],
            len(shown),
            tokens - agreed,
            sum(candidate.seconds for candidate, _ in shown),
        ),
    )


def _break_even(plain: Sequence[Candidate], shown: int, written: int, seconds: float) -> float | None:
    """Return the cost of verifying one draft, in tokens.

    The cost is the time of the ``shown`` steps, beyond the time to write their ``written`` tokens at the pace of the
    ``plain`` candidates.
    """
    tokens = sum(candidate.usage.completion_tokens for candidate in plain)
    plain_seconds = sum(candidate.seconds for candidate in plain)
    if not shown or not tokens or not plain_seconds:
        return None
    return round((seconds * tokens / plain_seconds - written) / shown, 2)
