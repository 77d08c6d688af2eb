"""Read a run: its events, its problems, and tables of them.

::

    run = Run.open("runs/first")
    for problem in run.problems():
        print(problem.key, problem.end, [step.kept.author for step in problem.steps()])
    frame = pandas.DataFrame(run.table("steps"))  # or polars.DataFrame
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Self

from arbiter.log.event_log import EventLog
from arbiter.log.history import Key, ProblemHistory, histories
from arbiter.log.latest_starts import latest_problems
from arbiter.log.reader import log_path
from arbiter.log.segmented_log import open_log
from arbiter.log.table_rows import Row, call_rows, event_row, problem_row, step_rows
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Event, Graded, RunStarted

SHARED = {"answers": "shared by arbiter sweep"}
"""An extra entry in the identity of a run whose answers may come from other runs (``docs/how-to/sweep.md``).

The times of such a run were not measured, and it cannot be resumed on its own.
"""

NO_END = (
    "the newest session has no end in the log: it is still in progress, it was killed, its program logs no end, "
    "or the end of the log was lost"
)
"""What to say of a log that was read and is not ``Run.ended``."""

Table = Literal["problems", "steps", "calls", "events"]


class Run:
    """A recorded run. Each method reads the log again, as a stream, so the log may be larger than memory.

    A log that is still being written, or was cut short, is read up to its last complete line.
    """

    def __init__(self, log: EventLog, started: RunStarted) -> None:
        self.started = started
        self._log = log

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Return the run in a folder, or of a log file, which may be compressed (``.gz``, ``.bz2``, ``.xz``).

        Raises ``RunError`` if there is no run, or if the schema version of its log cannot be read.
        """
        log = open_log(log_path(Path(path)))
        first = next(iter(log), None)
        if first is None or not isinstance(first.payload, RunStarted):
            raise RunError(
                f"{log.path} holds no run: it does not begin with the event run_started; give the events.jsonl of a run"
            )
        return cls(log, first.payload)

    @property
    def path(self) -> Path:
        """The path of the log."""
        return self._log.path

    @property
    def torn(self) -> int:
        """The size in bytes of an incomplete last line, which is left out. 0 until the log has been read."""
        return self._log.torn

    @property
    def ended(self) -> bool:
        """Whether the log ends with the end of its newest session. False until the log has been read.

        Otherwise the run is in progress or was killed, or the end of its log was lost.
        """
        return self._log.ended

    @property
    def is_shared(self) -> bool:
        """Whether answers may come from other runs of a sweep, so that the times in the log were not measured."""
        return SHARED.items() <= self.started.identity.items()

    def events(self) -> Iterator[Event]:
        """Yield all events in the order of the log, those of several workers problem by problem.

        Raises ``RunError`` naming the line that is damaged or missing."""
        return iter(self._log)

    def events_of(self, *names: str) -> Iterator[Event]:
        """Yield the events of some problems and those of no problem, in the order of the log.

        With an index (``arbiter.log.index``), only their lines are read."""
        return self._log.events_of(None, *names)

    def timeline(self) -> Iterator[Event]:
        """Yield all events in the order of their times. ``events`` has this order only within each problem."""
        return self._log.timeline()

    def follow(self) -> Iterator[Event]:
        """Yield all events and wait for new ones, until the newest session ends normally."""
        return self._log.follow()

    def problems(self) -> Iterator[ProblemHistory]:
        """Yield each problem, or each of its samples, as soon as its end is read; then the unfinished ones."""
        return histories(self.events())

    def problem(self, name: str) -> list[ProblemHistory]:
        """Return the samples of one problem, in the order of ``problems``.

        With an index (``arbiter.log.index``), only its lines are read."""
        return list(histories(self._log.events_of(name)))

    def grades(self) -> dict[Key, Graded]:
        """Return the last grade of each graded problem."""
        return grades_in(self.events())

    def latest_problems(self) -> Iterator[tuple[ProblemHistory, Graded | None]]:
        """Yield each problem, or each of its samples, once with its last grade: as it was started last.

        ``problems`` yields a problem that failed and was solved again twice."""
        return latest_problems(self.events)

    def table(self, of: Table) -> Iterator[Row]:
        """Yield the rows of a table, for example for a data frame. All rows have the same keys.

        ``docs/reference/log.md`` describes the keys.
        """
        match of:
            case "events":
                yield from map(event_row, self.events())
            case "problems":
                for problem, grade in self.latest_problems():
                    yield problem_row(problem, grade)
            case "steps":
                for problem, _ in self.latest_problems():
                    yield from step_rows(problem)
            case "calls":
                for problem in self.problems():
                    yield from call_rows(problem)


def grades_in(events: Iterable[Event]) -> dict[Key, Graded]:
    """Return the last grade of each graded problem in ``events``."""
    return {(event.problem or "", event.sample): event.payload for event in events if isinstance(event.payload, Graded)}
