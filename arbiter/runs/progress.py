"""Progress of a benchmark: a live line on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console, ConsoleOptions
from rich.text import Text

from arbiter.actors.slots import Occupancy
from arbiter.config.config import Config
from arbiter.config.local_paths import shown
from arbiter.config.model_tables import RouterTable, ServedTable
from arbiter.protocols.records import StepRecord
from arbiter.runs.results import Result

_PLAIN_LINES = 10  # per run, for the problems that end
_SILENT = 60.0  # seconds: after them a plain watcher also prints a line while no problem ends
_CAUSES = 5  # different failures that are shown during a run; results.jsonl has all of them
_BAR, _NARROW_BAR, _NARROW = 20, 10, 70  # columns; on a terminal below the last one the bar is the narrow one
_UNKNOWN = "-:--"
_SWEEP = "the sweep"

OccupancyOf = Callable[[], Mapping[str, Occupancy]]
"""Returns the slots of each model, by its configuration key after ``models.``, as they are at that moment."""


def loading_line(config: Config, tables: Mapping[str, RouterTable] | None = None) -> str:
    """Return the line that says which models a run of ``config`` loads or connects to.

    ``tables`` are the models of a sweep, which has several run types. None is for a single run.
    """
    called = config.called_tables() if tables is None else tables
    names = [
        f"{name} {shown(table.model)}" + (f" at {table.url}" if isinstance(table, ServedTable) else "")
        for name, table in called.items()
        if table is not None
    ]
    return f"loading models for {config.run_type if tables is None else _SWEEP}: {', '.join(names)}"


class ProgressCounts:
    """Running totals over the results so far, and over the steps of unfinished problems. Rates are of this session."""

    def __init__(self, earlier: Sequence[Result] = ()) -> None:
        self.solved = self.right = self.graded = self.failed = 0
        self.steps = self.accepted = self.tokens = 0
        self._started = time.monotonic()
        self._causes: set[str] = set()
        self._unfinished: dict[tuple[str, int], Counter[str]] = {}
        for result in earlier:
            self.add(result)
        self._solved_before, self._steps_before, self._tokens_before = self.solved, self.steps, self.tokens

    def keep(self, problem: str, sample: int, step: StepRecord) -> None:
        """Count a step of a problem that has not ended."""
        counts = self._unfinished.setdefault((problem, sample), Counter())
        accepted = step.kept.author == "draft"
        tokens = sum(candidate.usage.completion_tokens for candidate in step.candidates)
        counts.update(steps=1, accepted=accepted, tokens=tokens)
        self.steps += 1
        self.accepted += accepted
        self.tokens += tokens

    def add(self, result: Result) -> str | None:
        """Count a result. Return a line about its failure if its cause has not been shown before, else None."""
        solution = result.solution
        known = self._unfinished.pop((solution.problem, solution.sample), Counter[str]())
        self.solved += 1
        self.failed += solution.finish_reason == "failed"
        self.graded += result.grade.right is not None
        self.right += result.grade.right is True
        self.steps += len(solution.steps) - known["steps"]
        self.accepted += sum(step.kept.author == "draft" for step in solution.steps) - known["accepted"]
        self.tokens += sum(counts.usage.completion_tokens for counts in solution.requests.values()) - known["tokens"]
        if solution.error is None or solution.error in self._causes or len(self._causes) == _CAUSES:
            return None
        self._causes.add(solution.error)
        return f"{solution.problem} failed: {solution.error}"

    def parts(self) -> list[str]:
        """Return the figures, the most important ones first."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        accuracy = f"{self.right / self.graded:.1%}" if self.graded else "–"
        acceptance = f"{self.accepted / self.steps:.1%}" if self.steps else "–"
        return [
            f"accuracy {accuracy}",
            f"acceptance {acceptance}",
            f"{(self.steps - self._steps_before) / seconds:.1f} steps/s",
            f"{(self.tokens - self._tokens_before) / seconds:.0f} tokens/s",
            *([f"{self.failed} failed"] if self.failed else ()),
        ]

    def line(self) -> str:
        return "  ".join(self.parts())

    def left(self, solutions: int) -> str:
        """Return the time until all ``solutions`` are there, by the speed of this session, as ``1:02:03``."""
        solved = self.solved - self._solved_before
        if not solved:
            return _UNKNOWN
        minutes, seconds = divmod(int((time.monotonic() - self._started) * (solutions - self.solved) / solved), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Running:
    """The problems in flight, and the models that they wait for."""

    def __init__(self) -> None:
        self.most = 0
        self.occupancy: OccupancyOf = dict[str, Occupancy]

    def parts(self, left: int) -> list[str]:
        """Return how many of the ``left`` problems are in flight, and the requests at each model."""
        requests = {name: slots.taken + slots.waiting for name, slots in self.occupancy().items()}
        busy = [f"{name} {count}" for name, count in sorted(requests.items(), key=lambda item: -item[1]) if count]
        flying = min(left, self.most)
        return [f"{flying} in flight" + (f", at {', '.join(busy)}" if busy else "")] if flying else []


class PlainWatcher:
    """Prints about ten lines per run, and one a minute while no problem ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._solutions = 0
        self._tallies = ProgressCounts()
        self._running = _Running()
        self._printed = time.monotonic()

    def loading(self, config: Config, tables: Mapping[str, RouterTable] | None = None) -> None:
        self._running.most = config.limits.problems
        self._print(loading_line(config, tables))

    def notice(self, text: str) -> None:
        self._print(text)

    def started(self, solutions: int, earlier: Sequence[Result]) -> None:
        self._solutions, self._tallies = solutions, ProgressCounts(earlier)

    def solving(self, occupancy: OccupancyOf) -> None:
        self._running.occupancy = occupancy

    def kept(self, problem: str, sample: int, step: StepRecord) -> None:
        self._tallies.keep(problem, sample, step)
        if time.monotonic() - self._printed >= _SILENT:
            self._print_figures()

    def solved(self, result: Result) -> None:
        if failure := self._tallies.add(result):
            self._print(failure)
        done = self._tallies.solved
        if done == self._solutions or done % max(1, self._solutions // _PLAIN_LINES) == 0:
            self._print_figures()

    def _print_figures(self) -> None:
        done = self._tallies.solved
        parts = [*self._tallies.parts(), *self._running.parts(self._solutions - done)]
        self._print(f"{done}/{self._solutions}  {'  '.join(parts)}")

    def _print(self, text: str) -> None:
        self._printed = time.monotonic()
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class LiveWatcher:
    """Shows a progress bar on a terminal. Use it as a context manager.

    The bar, the count and the time left have a line, together with the figures if there is room for them. Otherwise the
    figures have the lines below.
    """

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._live = Live(self, console=console, refresh_per_second=4, auto_refresh=True)
        self._label = ""
        self._solutions: int | None = None
        self._loading, self._since = "", 0.0
        self._tallies = ProgressCounts()
        self._running = _Running()

    def __enter__(self) -> "LiveWatcher":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def loading(self, config: Config, tables: Mapping[str, RouterTable] | None = None) -> None:
        self._label, self._running.most = config.run_type if tables is None else "sweep", config.limits.problems
        self._loading, self._since = loading_line(config, tables), time.monotonic()

    def notice(self, text: str) -> None:
        """Print a line above the bar, with line breaks between words."""
        self._console.print(text, highlight=False, markup=False)

    def started(self, solutions: int, earlier: Sequence[Result]) -> None:
        self._tallies, self._solutions, self._loading = ProgressCounts(earlier), solutions, ""

    def solving(self, occupancy: OccupancyOf) -> None:
        self._running.occupancy = occupancy

    def kept(self, problem: str, sample: int, step: StepRecord) -> None:
        self._tallies.keep(problem, sample, step)

    def solved(self, result: Result) -> None:
        if failure := self._tallies.add(result):
            self.notice(failure)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Draw the progress as it is now. It is called by another thread."""
        width, counts, total = options.max_width, self._tallies, self._solutions
        if total is None:
            seconds = int(time.monotonic() - self._since)
            yield Text(f"{seconds} s  {self._loading}" if self._loading else "")
            return
        done = counts.solved
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{self._label} " if self._label else "")
        line.append_text(_bar(done, total, _NARROW_BAR if width < _NARROW else _BAR))
        line.append(f" {done}/{total}", "progress.download")
        line.append(f" {counts.left(total)} left", "progress.remaining")
        parts = [*counts.parts(), *self._running.parts(total - done)]
        if line.cell_len + sum(len(part) + 2 for part in parts) <= width:
            yield line.append("".join(f"  {part}" for part in parts))
            return
        yield line
        for text in _wrapped(parts, width):
            yield Text(text, no_wrap=True, overflow="ellipsis")


def _bar(done: int, total: int, width: int) -> Text:
    filled = width if done >= total else width * done // total
    return Text("━" * filled, "bar.complete").append("─" * (width - filled), "bar.back")


def _wrapped(parts: Iterable[str], width: int) -> list[str]:
    """Return ``parts`` in lines of at most ``width`` characters; a longer part has a line of its own."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(f"  {part}")
    return lines


def watcher_for(console: Console) -> AbstractContextManager[PlainWatcher | LiveWatcher]:
    """Return a live watcher if ``console`` is a terminal on which lines can be redrawn, else a plain one."""
    return LiveWatcher(console) if console.is_interactive else nullcontext(PlainWatcher(console))
