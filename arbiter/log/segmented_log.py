"""Read the log of a run that several workers wrote: ``events.jsonl`` and the segments as one log.

The events are in the order of the problems: first those that were claimed first. Each problem has its events in their
order, although several workers may have written them. What a worker wrote too late is left out
(``arbiter.log.claims``). Only the index of the lines and one problem are held in memory.
"""

import heapq
import math
import time
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from arbiter.log.claims import Claims, Place, SegmentLimits, parts_read, rank
from arbiter.log.event_log import EventLog
from arbiter.log.history import Key
from arbiter.log.index import LogIndex, Span
from arbiter.log.reader import LogFile, Position
from arbiter.log.segments import LEDGER, MAIN, Segment, index_of_segment, segments_of
from arbiter.log.time_order import in_time_order, time_of
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Event, Graded, Part, ProblemClaimed, RunStarted

_LINES = 1000  # that ``follow`` reads at once from a segment


def open_log(path: Path, limits: Mapping[str, int] | None = None) -> EventLog:
    """Return the log ``path`` with its segments, if it has any. ``limits`` is as in ``SegmentedLog``.

    Raises ``RunError`` if the log is compressed, but its segments are not.
    """
    if not segments_of(path):
        return LogFile(path)
    if path.suffix != ".jsonl":
        raise RunError(f"{path} belongs to the segments of several workers: unpack it first")
    return SegmentedLog(path, limits)


class Chain(NamedTuple):
    """What counts of one sample of a problem: its ``events`` without grades, and where they are.

    ``session`` is that of its newest claim; -1 if it has none.
    """

    events: list[Event]
    parts: tuple[Part, ...]
    session: int


class _Source(NamedTuple):
    """A file of the log. ``session`` is None for ``events.jsonl``, and ``limit`` the number of its lines that count."""

    name: str
    session: int | None
    file: LogFile
    lines: LogIndex
    limit: float


class _Contents:
    """Where everything is in a log with segments, as it was when this was made."""

    def __init__(self, path: Path, limits: Mapping[str, int] | None, main: LogFile) -> None:
        self.claims = Claims()
        self.of_run = [event for event in main if event.problem is None]
        self.run = self.of_run[0].run if self.of_run else ""
        index = index_of_segment(path)
        begun = [
            (start, event.payload)
            for (start, _), event in zip(index.others, self.of_run, strict=False)
            if isinstance(event.payload, RunStarted)
        ]
        self._starts = [start for start, _ in begun]
        said: dict[int, Mapping[str, int]] = {started.session: started.segments for _, started in begun}
        if limits is not None:
            said[len(begun)] = limits
        self.sources = [_Source(MAIN, None, main, index, math.inf)]
        allowed = SegmentLimits(said)
        for segment in segments_of(path):
            limit = allowed.of(segment)
            self._add(segment, math.inf if limit is None else limit)
        self.of_run.sort(key=lambda event: not isinstance(event.payload, RunStarted) or event.payload.session > 0)

    def _add(self, segment: Segment, limit: float) -> None:
        source = _Source(segment.name, segment.session, LogFile(segment.path), index_of_segment(segment.path), limit)
        for _, event in self.events_at(source, source.lines.others):
            if event.seq >= limit:
                continue
            if not isinstance(event.payload, ProblemClaimed):
                self.of_run.append(event)
            elif segment.worker != LEDGER:
                self.claims.add(segment, event.seq, event.payload)
        if segment.worker != LEDGER:
            self.sources.append(source)

    def events_at(self, source: _Source, spans: Iterable[Span]) -> Iterator[tuple[int, Event]]:
        try:
            yield from source.file.events_at(spans, self.run)
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {source.file.path}: {error}") from error

    def place(self, source: _Source, offset: int, seq: int) -> Place:
        session = bisect_right(self._starts, offset) - 1 if source.session is None else source.session
        return Place(source.name, seq, session)

    def names(self) -> list[str]:
        """Return the problems in the order of their first claims, or of their first lines in ``events.jsonl``."""
        order: dict[str, tuple[float, float, int]] = {}
        for source in self.sources:
            for name, spans in source.lines.spans.items():
                start = spans[0][0]
                session = self.place(source, start, 0).session
                order[name] = min(order.get(name, (math.inf, math.inf, 0)), (session, math.inf, start))
        for name, (session, token) in self.claims.first.items():
            if name in order:
                order[name] = min(order[name], (session, token, 0))
        return sorted(order, key=order.__getitem__)

    def places(self, names: Iterable[str]) -> dict[str, Hashable]:
        found: dict[str, Hashable] = {}
        for name in names:
            within = [(source, spans) for source in self.sources if (spans := source.lines.spans.get(name))]
            found[name] = tuple((source.name, source.limit, len(spans), *spans[-1]) for source, spans in within)
        return found

    def found(self, name: str) -> dict[Key, list[tuple[Place, Event]]]:
        """Return all lines of a problem that are within their limits, by sample, with the grades."""
        found: dict[Key, list[tuple[Place, Event]]] = {}
        for source in self.sources:
            for offset, event in self.events_at(source, source.lines.spans.get(name, ())):
                if event.seq < source.limit:
                    key = name, event.sample
                    found.setdefault(key, []).append((self.place(source, offset, event.seq), event))
        return found


class SegmentedLog:
    """A log with segments. ``path`` is its ``events.jsonl``.

    ``limits`` says how many lines of each segment are read, as if a session had begun that says so. Its members are
    those of ``LogFile``; ``torn``, ``whole``, ``lines``, ``crc`` and ``ended`` are about ``events.jsonl``. An
    incomplete last line of a segment is left out.
    """

    def __init__(self, path: Path, limits: Mapping[str, int] | None = None) -> None:
        self.path = path
        self._limits = limits
        self._main = LogFile(path)

    @property
    def torn(self) -> int:
        return self._main.torn

    @property
    def whole(self) -> int:
        return self._main.whole

    @property
    def lines(self) -> int:
        return self._main.lines

    @property
    def crc(self) -> int | None:
        return self._main.crc

    @property
    def ended(self) -> bool:
        return self._main.ended

    def __iter__(self) -> Iterator[Event]:
        """Yield the start of the run, the events of each problem, and then the other events of the run."""
        contents = self._read()
        yield from contents.of_run[:1]
        for name in contents.names():
            yield from _in_order(contents, name)
        yield from contents.of_run[1:]

    def events_of(self, *problems: str | None) -> Iterator[Event]:
        """Yield the events of some problems, as iteration does. None is for those of no problem."""
        contents = self._read()
        if None in problems:
            yield from contents.of_run
        for name in contents.names():
            if name in problems:
                yield from _in_order(contents, name)

    def places(self) -> dict[str, Hashable]:
        """Return where the lines of each problem are, in the order of iteration. It changes if other lines count."""
        return (contents := self._read()).places(contents.names())

    def chains(self, names: Iterable[str]) -> dict[Key, Chain]:
        """Return what counts of the problems ``names``, by sample, and where it is. For a worker that continues them.

        A sample without such lines is left out.
        """
        contents = self._read()
        found: dict[Key, Chain] = {}
        for name in names:
            for key, lines in contents.found(name).items():
                claim = contents.claims.last(key)
                ranked = _ranked(contents, key, lines)
                if ranked:
                    parts = parts_read(claim, (place for place, _ in ranked))
                    found[key] = Chain([event for _, event in ranked], parts, claim.session)
        return found

    def timeline(self) -> Iterator[Event]:
        """Yield all events in the order of their times. Of each file, the events of a few seconds are in memory."""
        contents = self._read()
        ordered = (in_time_order(_counted(contents, source)) for source in contents.sources)
        return heapq.merge(*ordered, sorted(contents.of_run, key=time_of), key=time_of)

    def follow(self, pause: float = 0.2) -> Iterator[Event]:
        """Yield the events so far and wait for new ones, until the newest session ends regularly.

        What a worker writes too late is left out once the next worker has begun.
        """
        positions: dict[Path, Position] = {}
        claims, end = Claims(), list[Event]()
        while True:
            news = False
            for segment in (None, *segments_of(self.path)):
                path = self.path if segment is None else segment.path
                events, positions[path] = LogFile(path).read_on(positions.get(path, Position()), _LINES)
                news = news or bool(events)
                for event in events:
                    if segment is not None:
                        if _is_current(claims, segment, event):
                            yield event
                    elif event.kind == "run_ended":  # other files may have older events
                        end = [event]
                    else:
                        yield from end
                        yield event
                        end = []
            if end and not news:
                yield from end
                return
            if not news:
                time.sleep(pause)

    def _read(self) -> _Contents:
        return _Contents(self.path, self._limits, self._main)


def _ranked(contents: _Contents, key: Key, lines: Iterable[tuple[Place, Event]]) -> list[tuple[Place, Event]]:
    """Return the lines of a sample that count, without grades, in their order."""
    claim = contents.claims.last(key)
    ranked = (
        (found, place, event)
        for place, event in lines
        if not isinstance(event.payload, Graded) and (found := rank(claim, place)) is not None
    )
    return [(place, event) for _, place, event in sorted(ranked, key=lambda item: item[0])]


def _in_order(contents: _Contents, name: str) -> Iterator[Event]:
    """Yield the events of a problem. A grade stands before the events of later sessions, and after all others."""
    for key, lines in sorted(contents.found(name).items()):
        claim = contents.claims.last(key)
        grades = [(place, event) for place, event in lines if isinstance(event.payload, Graded)]
        ranked = _ranked(contents, key, lines)
        newest = max([claim.session, *(place.session for place, _ in ranked)])
        yield from (event for place, event in grades if place.session < newest)
        yield from (event for _, event in ranked)
        yield from (event for place, event in grades if place.session >= newest)


def _counted(contents: _Contents, source: _Source) -> Iterator[Event]:
    """Yield the events of problems in one file that count, in the order of the file."""
    spans = sorted(span for spans in source.lines.spans.values() for span in spans)
    for start, event in contents.events_at(source, spans):
        if event.seq >= source.limit:
            continue
        claim = contents.claims.last((event.problem or "", event.sample))
        if isinstance(event.payload, Graded) or rank(claim, contents.place(source, start, event.seq)) is not None:
            yield event


def _is_current(claims: Claims, segment: Segment, event: Event) -> bool:
    """Return whether an event of a segment counts, as far as the ``claims`` so far say. A claim is added to them."""
    if isinstance(event.payload, ProblemClaimed):
        if segment.worker != LEDGER:
            claims.add(segment, event.seq, event.payload)
        return False
    claim = claims.last((event.problem or "", event.sample))
    return event.problem is None or (claim.segment, claim.session) == (segment.name, segment.session)
