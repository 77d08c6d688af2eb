"""Read what the earlier sessions of a run wrote into its log."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from arbiter.log.history import Key, ProblemHistory
from arbiter.log.segmented_log import open_log
from arbiter.protocols.events import (
    EscalateStepEvent,
    Event,
    Graded,
    ProblemEnded,
    RunStarted,
    StartProblemEvent,
    StepAcceptedEvent,
)
from arbiter.protocols.records import Solution


class EarlierSessions:
    """The finished problems, their grades, and the unfinished problems of a log.

    All are empty if ``path`` is None or does not exist. ``threshold`` is the last one that a budget set, or None.
    ``limits`` says how many lines of each segment are read (``arbiter.log.segments``); None: all.

    Raises ``RunError`` naming the line if the log is damaged before its last line.
    """

    def __init__(self, path: Path | None, limits: Mapping[str, int] | None = None) -> None:
        self.sessions = 0
        self.started: RunStarted | None = None
        self.run = secrets.token_hex(4)
        self.seq = 0
        self.mono = 0.0
        self.threshold: float | None = None
        self._threshold_at = 0.0
        self.solutions: dict[Key, Solution] = {}
        self.grades: dict[Key, Graded] = {}
        self.unfinished: dict[Key, ProblemHistory] = {}
        self._file = None if path is None or not path.exists() else open_log(path, limits)
        if self._file is not None:
            for event in self._file:
                self._add(event)
            self.seq = self._file.lines

    @classmethod
    def of_segment(cls, run: str, seconds: float) -> Self:
        """Return what a worker's new segment of the log of ``run`` follows, ``seconds`` after the run began."""
        earlier = cls(None)
        earlier.run, earlier.mono = run, seconds
        return earlier

    @property
    def torn(self) -> int:
        """The size in bytes of an incomplete last line; 0 if the last line is complete."""
        return self._file.torn if self._file else 0

    @property
    def crc(self) -> int | None:
        """The checksum of the last complete line, from which those of further lines follow."""
        return self._file.crc if self._file else None

    def repair(self) -> None:
        """Remove an incomplete last line from the log."""
        if self._file and self.torn:
            with self._file.path.open("r+b") as file:
                file.truncate(self._file.whole)

    def _add(self, event: Event) -> None:
        self.run, self.mono = event.run, max(self.mono, event.mono)
        decision = event.payload if isinstance(event.payload, StepAcceptedEvent | EscalateStepEvent) else None
        # a line can carry a decision that is older than those in the lines before it
        if decision and decision.threshold is not None and event.mono >= self._threshold_at:
            self.threshold, self._threshold_at = decision.threshold, event.mono
        key = event.problem or "", event.sample
        match event.payload:
            case RunStarted():
                self.sessions += 1
                self.started = self.started or event.payload
            case StartProblemEvent():
                self.unfinished[key] = ProblemHistory(event)
                self.solutions.pop(key, None)  # a failed problem is being solved again
                self.grades.pop(key, None)
            case Graded():
                self.grades[key] = event.payload
            case _ if key in self.unfinished:
                self._add_to(self.unfinished[key], event)
            case _:
                pass  # an event of the run itself, or of a problem that has ended

    def _add_to(self, problem: ProblemHistory, event: Event) -> None:
        problem.add(event)
        solution = problem.solution() if isinstance(event.payload, ProblemEnded) else None
        if solution is not None:
            self.solutions[problem.key] = solution
            del self.unfinished[problem.key]
