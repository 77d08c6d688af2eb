"""What showing rejected drafts to the target saved, and what it cost (``--verify``)."""

from collections.abc import Sequence

from arbiter.protocols.records import Candidate, Record


class VerificationSavings(Record, frozen=True):
    """Escalations that were ``shown`` the rejected draft (``--verify``): with ``agreed`` of its ``proposed`` tokens the
    target agreed, and had to write the rest of its own ``tokens``. ``whole`` steps it would have written as they were.

    ``break_even`` is an estimate of how many tokens of a draft must be agreed on until showing it takes no longer than
    writing: what checking costs, in tokens that the target writes meanwhile. None unless both ways were taken.
    """

    shown: int = 0
    whole: int = 0
    proposed: int = 0
    agreed: int = 0
    tokens: int = 0
    break_even: float | None = None


def verified(rewritten: Sequence[Candidate]) -> VerificationSavings:
    """Of what the target wrote in the place of rejected drafts."""
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
    """What checking a draft costs, in tokens: the seconds of the ``shown`` steps that the tokens ``written`` for them
    do not explain, at the pace of the ``plain`` ones.
    """
    tokens, taken = sum(one.usage.completion_tokens for one in plain), sum(one.seconds for one in plain)
    if not shown or not tokens or not taken:
        return None
    return round((seconds * tokens / taken - written) / shown, 2)
