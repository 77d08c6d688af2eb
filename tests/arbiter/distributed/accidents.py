"""Have something happen to a run when a number of problems have ended."""

import re
from collections.abc import Callable

from arbiter.runs.results import Result
from benchmarks.silent_watcher import SilentWatcher


class Accidents(SilentWatcher):
    """Calls a function of ``at`` when its number of problems have ended. Knows the newest process of each worker."""

    def __init__(self, at: dict[int, Callable[["Accidents"], object]]) -> None:
        self._at = at
        self.solutions = 0
        self.processes: dict[str, int] = {}
        self.lines: list[str] = []

    def notice(self, text: str) -> None:
        self.lines.append(text)
        if found := re.search(r"the worker (\w+) is on .* \(process (\d+)\)", text):
            self.processes[found[1]] = int(found[2])

    def solved(self, result: Result) -> None:
        self.solutions += 1
        accident = self._at.get(self.solutions)
        if accident is not None:
            accident(self)
