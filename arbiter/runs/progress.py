"""Progress of a benchmark: a live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console

from arbiter.config.config import Config
from arbiter.runs.results import Result

_PLAIN_LINES = 10  # per run
_CAUSES = 5  # different failures that are shown during a run; results.jsonl has all of them


class ProgressCounts:
    """Running totals over the results so far. Rates are those of this session."""

    def __init__(self, earlier: Sequence[Result] = ()) -> None:
        self.solved = self.right = self.graded = self.failed = 0
        self.steps = self.accepted = self.tokens = 0
        self._started = time.monotonic()
        self._causes: set[str] = set()
        for result in earlier:
            self.add(result)
        self._steps_before, self._tokens_before = self.steps, self.tokens

    def add(self, result: Result) -> str | None:
        """Count a result. Return a line about its failure if its cause has not been shown before, else None."""
        solution = result.solution
        self.solved += 1
        self.failed += solution.finish_reason == "failed"
        self.graded += result.grade.right is not None
        self.right += result.grade.right is True
        self.steps += len(solution.steps)
        self.accepted += sum(step.kept.author == "draft" for step in solution.steps)
        self.tokens += sum(counts.usage.completion_tokens for counts in solution.requests.values())
        if solution.error is None or solution.error in self._causes or len(self._causes) == _CAUSES:
            return None
        self._causes.add(solution.error)
        return f"{solution.problem} failed: {solution.error}"

    def line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        accuracy = f"{self.right / self.graded:.1%}" if self.graded else "–"
        acceptance = f"{self.accepted / self.steps:.1%}" if self.steps else "–"
        failed = f"  {self.failed} failed" if self.failed else ""
        return (
            f"accuracy {accuracy}  acceptance {acceptance}  "
            f"{(self.steps - self._steps_before) / seconds:.1f} steps/s  "
            f"{(self.tokens - self._tokens_before) / seconds:.0f} tokens/s{failed}"
        )


class PlainWatcher:
    """Prints about ten lines per run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._solutions = 0
        self._tallies = ProgressCounts()

    def loading(self, config: Config) -> None:
        self._print(f"loading models for {config.run_type}")

    def notice(self, text: str) -> None:
        self._print(text)

    def started(self, solutions: int, earlier: Sequence[Result]) -> None:
        self._solutions, self._tallies = solutions, ProgressCounts(earlier)

    def solved(self, result: Result) -> None:
        if failure := self._tallies.add(result):
            self._print(failure)
        done = self._tallies.solved
        if done == self._solutions or done % max(1, self._solutions // _PLAIN_LINES) == 0:
            self._print(f"{done}/{self._solutions}  {self._tallies.line()}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class LiveWatcher:
    """Shows a progress bar on a terminal. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._task = self._progress.add_task("loading models", total=None, figures="")
        self._run_type = ""
        self._tallies = ProgressCounts()

    def __enter__(self) -> "LiveWatcher":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def loading(self, config: Config) -> None:
        self._run_type = config.run_type
        self._progress.update(self._task, description=f"{config.run_type}: loading models")

    def notice(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def started(self, solutions: int, earlier: Sequence[Result]) -> None:
        self._tallies = ProgressCounts(earlier)
        self._progress.update(self._task, description=self._run_type, total=solutions, completed=len(earlier))

    def solved(self, result: Result) -> None:
        if failure := self._tallies.add(result):
            self.notice(failure)
        self._progress.update(self._task, completed=self._tallies.solved, figures=self._tallies.line())


def watcher_for(console: Console) -> AbstractContextManager[PlainWatcher | LiveWatcher]:
    """Return a live watcher if ``console`` is a terminal, else a plain one."""
    return LiveWatcher(console) if console.is_terminal else nullcontext(PlainWatcher(console))
