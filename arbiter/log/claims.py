"""Which lines about a problem count, if several workers wrote about it.

The claim with the largest token decides. Of the lines of others, those count that its worker had read. A worker that
was thought dead may have written more: no other process has read that, so it is no part of the run.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from arbiter.log.history import Key
from arbiter.log.segments import MAIN, Segment
from arbiter.protocols.events import Part, ProblemClaimed


class Claim(NamedTuple):
    """A claim in line ``seq`` of a segment. The one with the largest session and token decides."""

    session: int
    token: int
    segment: str
    seq: int
    earlier: tuple[Part, ...]


NO_CLAIM = Claim(-1, 0, MAIN, -1, ())
"""That of a problem which no worker has claimed: all of its lines in ``events.jsonl`` count."""


class SegmentLimits:
    """How many lines of each segment count, by what later sessions said of it when they began.

    ``said`` has, for each session, the lines that the segments of earlier sessions had then.
    """

    def __init__(self, said: Mapping[int, Mapping[str, int]]) -> None:
        self._said = dict(sorted(said.items()))

    def of(self, segment: Segment) -> int | None:
        """Return the number of lines of ``segment`` that count; None if all do."""
        later = (lines for session, lines in self._said.items() if session > segment.session)
        first = next(later, None)
        return None if first is None else first.get(segment.name, 0)


class Claims:
    """The claims of a run. Those that a segment's limit leaves out must not be added."""

    def __init__(self) -> None:
        self._last: dict[Key, Claim] = {}
        self.first: dict[str, tuple[int, int]] = {}
        """The session and the token of the first claim of each problem."""

    def add(self, segment: Segment, seq: int, claim: ProblemClaimed) -> None:
        """Add a claim in line ``seq`` of a worker's segment."""
        key, found = (
            (claim.claimed, claim.number),
            Claim(segment.session, claim.token, segment.name, seq, claim.earlier),
        )
        self._last[key] = max(found, self._last.get(key, NO_CLAIM))
        self.first[key[0]] = min(found[:2], self.first.get(key[0], found[:2]))

    def last(self, key: Key) -> Claim:
        """Return the claim that decides; ``NO_CLAIM`` if the problem was never claimed."""
        return self._last.get(key, NO_CLAIM)


class Place(NamedTuple):
    """Where a line is: its segment, its number there, and the session in which it was written."""

    segment: str
    seq: int
    session: int


def rank(claim: Claim, place: Place) -> tuple[int, int] | None:
    """Return the rank of a line of the problem that was claimed last by ``claim``; None if the line does not count.

    Lines are read in the order of their ranks. Grades are not ranked: they all count.
    """
    for number, part in enumerate(claim.earlier):
        if part.segment == place.segment and part.start <= place.seq < part.end:
            return number, place.seq
    if place.segment == MAIN:
        return (len(claim.earlier) + 1, place.seq) if place.session > claim.session else None
    if place.segment == claim.segment and place.seq > claim.seq:
        return len(claim.earlier), place.seq
    return None


def parts_read(claim: Claim, places: Iterable[Place]) -> tuple[Part, ...]:
    """Return the parts of the log that a worker has read that found ``places``, all of which count."""
    ranges: dict[int, tuple[str, int, int]] = {}
    for place in places:
        ranked = rank(claim, place)
        if ranked is None or ranked[0] < len(claim.earlier):
            continue
        _, start, end = ranges.get(ranked[0], (place.segment, place.seq, place.seq + 1))
        ranges[ranked[0]] = place.segment, min(start, place.seq), max(end, place.seq + 1)
    return (*claim.earlier, *(Part(*ranges[number]) for number in sorted(ranges)))
