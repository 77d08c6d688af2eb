"""How long escalations waited for each other before they went to a target (``models.NAME.gather``)."""

from collections.abc import Iterable

from arbiter.protocols.records import Candidate, Record


class GatheringWaits(Record, frozen=True):
    """Totals over the answered escalations that were held, or were released with others.

    - ``held``: their number.
    - ``mean_seconds``, ``largest_seconds``: how long they were held. None if none was.
    - ``together``: the mean number that one release let go. None if none was held.
    """

    held: int = 0
    mean_seconds: float | None = None
    largest_seconds: float | None = None
    together: float | None = None


def gathering_waits(candidates: Iterable[Candidate]) -> GatheringWaits:
    """Return the totals over ``candidates``; those that did not gather do not count."""
    gathered = [candidate.gathered for candidate in candidates if candidate.gathered is not None]
    if not gathered:
        return GatheringWaits()
    seconds = [one.seconds for one in gathered]
    releases = sum(1 / one.together for one in gathered)  # each release counts once, over all that it let go
    return GatheringWaits(
        held=len(gathered),
        mean_seconds=round(sum(seconds) / len(seconds), 6),
        largest_seconds=max(seconds),
        together=round(len(gathered) / releases, 2),
    )
