"""Build the index of a run from its log, and extend it while the log grows."""

from pathlib import Path

from arbiter.log.history import Key, ProblemHistory
from arbiter.log.reader import LogFile, Position
from arbiter.log.segments import segments_of
from arbiter.protocols.errors import ArbiterError, RunError
from arbiter.protocols.events import Event, Graded, ProblemEnded, StartProblemEvent
from arbiter.view.load_over_time import Load
from arbiter.view.problem_rows import ProblemRow, graded_row, problem_row
from arbiter.view.row_index import RowIndex
from arbiter.view.segment_changes import SegmentChanges

LINES = 2000
"""The largest number of lines of the log that are read at once: about a tenth of a second."""

_FIRST = 250  # lines: so the first rows are there soon


class IndexBuilder:
    """Reads a log from its beginning into ``index``. Only open problems are held in memory.

    ``error`` says what is damaged: nothing after it can be read. ``position`` is where the reader is, and ``lines`` how
    many it reads next, at most. ``changes`` reads the log of several workers in their place; None for any other.
    """

    def __init__(self, log: Path, index: RowIndex) -> None:
        self.error: str | None = None
        self.changes = SegmentChanges(log) if segments_of(log) else None
        self.position = Position()
        self._log = LogFile(log)
        self._index = index
        self._load = Load()
        self._open: dict[Key, tuple[int, ProblemHistory]] = {}
        self._rows: dict[int, ProblemRow] = {}
        self._numbers: dict[Key, int] = {}
        self._counted: set[tuple[Key, float]] = set()
        self._next = 1
        self.lines = _FIRST

    def advance(self) -> bool:
        """Read up to ``LINES`` more lines and store their rows. Return whether there were any."""
        if self.error is not None:
            return False
        events = list[Event]()
        try:
            events = self._read()
            for event in events:
                self._add(event)
        except ArbiterError as error:
            self.error, events = str(error), []
        if not events:
            self._add_open()
        self._store()
        return bool(events)

    def share(self, size: int) -> float:
        """Return the share of the log that has been read, if it has ``size`` bytes."""
        if self.changes is not None:
            return self.changes.share
        return min(1.0, self.position.offset / size if size else 0.0)

    def _read(self) -> list[Event]:
        """Return the events of the next lines. Raises ``RunError`` if the next line is damaged."""
        if self.changes is not None:
            return self.changes.read_on()
        while True:
            try:
                events, self.position = self._log.read_on(self.position, self.lines)
            except RunError:
                if self.lines == 1:
                    raise
                self.lines = max(1, self.lines // 2)  # so that the lines before the damage are read
            else:
                self.lines = min(LINES, 2 * self.lines)
                return events

    def _add(self, event: Event) -> None:
        if event.problem is None:
            self._load.note(event)
            return
        key = event.problem, event.sample
        if isinstance(event.payload, StartProblemEvent):
            self._open[key] = self._number(key), ProblemHistory(event)
        elif isinstance(event.payload, Graded):
            if self._is_new(key, event):
                self._load.note(event)
            self._grade(key, event.payload)
        elif key in self._open:
            number, history = self._open[key]
            history.add(event)
            if isinstance(event.payload, ProblemEnded):
                del self._open[key]
                steps = history.steps()
                self._rows[number] = problem_row(history, steps)
                self._numbers[key] = number
                if self._is_new(key, event):
                    self._load.add(history, steps)

    def _is_new(self, key: Key, event: Event) -> bool:
        """Return whether an end or a grade was not counted yet: a log of several workers repeats whole problems."""
        if self.changes is None:
            return True
        known = len(self._counted)
        self._counted.add((key, event.mono))
        return len(self._counted) > known

    def _number(self, key: Key) -> int:
        """Return the row of a problem that starts. One that starts again, in a later session, keeps its row."""
        known = self._open[key][0] if key in self._open else self._numbers.get(key) or self._index.row_of(key)
        if known is not None:
            return known
        self._next += 1
        return self._next - 1

    def _grade(self, key: Key, graded: Graded) -> None:
        number = self._numbers.get(key)
        if number is not None:
            self._rows[number] = graded_row(self._rows[number], graded)
            return
        stored = self._index.whole(key)  # the problem ended in lines that were read earlier
        if stored is not None:
            self._rows[stored[0]] = graded_row(stored[1], graded)

    def _add_open(self) -> None:
        """Add the problems that have no end yet, as far as they are."""
        for number, history in self._open.values():
            self._rows[number] = problem_row(history, history.steps())

    def _store(self) -> None:
        self._index.write(self._rows, {"load": self._load.to_json()})
        self._rows.clear()
        self._numbers.clear()
