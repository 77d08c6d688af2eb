"""``arbiter replay``: feed recorded answers and times to the actors, and check that they send the recorded messages."""

from collections import defaultdict

import anyio

from arbiter.actors.ring import Ring, open_ring
from arbiter.log.history import Key, ProblemHistory
from arbiter.log.run import Run
from arbiter.protocols.errors import DivergedError, RunError
from arbiter.protocols.events import Detail, Entry
from arbiter.protocols.records import Record
from arbiter.replay.message_comparison import MessageComparison, MessageDifference, struck_after
from arbiter.replay.recorded_models import RecordedModels
from arbiter.replay.recorded_tasks import task_of
from arbiter.replay.virtual_time import run_virtually

AT_ONCE = 64
"""Problems that are replayed concurrently: enough to share the jumps of the clock, few enough to fit in memory."""

_AFTERWARDS = 1.0  # virtual seconds after a problem's last recorded event in which unrecorded events are still noticed


class ReplayResult(Record, frozen=True):
    """The result of a replay. ``differences`` has the first difference of each problem, in the order of the log."""

    run: str
    problems: int
    unfinished: int
    messages: int
    differences: tuple[MessageDifference, ...]


class CheckingJournal:
    """A ``Journal`` that compares what it is given with a log, and stops a problem that diverges from it."""

    kept = True
    threshold: float | None = None

    def __init__(self, detail: Detail) -> None:
        self._detail: Detail = detail
        self._decided: dict[str, float] = {}
        self._comparisons: dict[Key, MessageComparison] = {}
        self._spent: dict[str, float] = {}

    def begin(self, problem: ProblemHistory) -> MessageComparison:
        """Start to compare what ``problem`` does. Return its comparison."""
        comparison = self._comparisons[problem.key] = MessageComparison(problem, self._detail)
        self._decided.update({problem.place(step): threshold for step, threshold in problem.thresholds().items()})
        deadline = problem.task.limits.deadline
        if deadline is not None:
            self._spent[problem.start.id] = deadline - struck_after(problem)
        return comparison

    def end(self, problem: ProblemHistory) -> None:
        """Stop comparing the problem, which has ended."""
        self._comparisons.pop(problem.key, None)
        self._spent.pop(problem.start.id, None)
        for step in problem.thresholds():
            self._decided.pop(problem.place(step), None)

    async def write(self, entry: Entry) -> None:
        if not self._is_recorded(entry):
            raise DivergedError(f"{entry.id} is not in the log")

    def note(self, entry: Entry) -> None:
        self._is_recorded(entry)

    def recall(self, call: str) -> None:
        """Return None: each call is made again, and is answered at its recorded time."""

    def decided(self, place: str) -> float | None:
        return self._decided.get(place)

    def spent(self, start: str) -> float:
        return self._spent.get(start, 0.0)

    def _is_recorded(self, entry: Entry) -> bool:
        comparison = self._comparisons.get((entry.problem or "", entry.sample))
        return comparison is None or comparison.add(entry)


def check(run: Run) -> ReplayResult:
    """Replay all problems of ``run``. Raises ``RunError`` if its log cannot be read or replayed."""
    if run.started.record == "decisions":
        raise RunError(
            f"{run.path} cannot be replayed: it was recorded with log.record = 'decisions', which leaves out the "
            "messages between actors. Record runs with 'full' or 'redacted' to replay them"
        )
    replay = _Replay(run)
    run_virtually(replay.run)
    return replay.verdict()


class _Replay:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._models = RecordedModels()
        self._journal = CheckingJournal(run.started.record)
        self._busy = defaultdict[Key, anyio.Lock](anyio.Lock)  # two records of the same problem are replayed in turn
        self._problems = self._unfinished = self._messages = 0
        self._differences: dict[int, MessageDifference] = {}
        self._refusal: RunError | None = None

    def verdict(self) -> ReplayResult:
        """Return the result. Raises ``RunError`` if the log could not be read or replayed."""
        if self._refusal is not None:
            raise self._refusal
        differences = tuple(self._differences[number] for number in sorted(self._differences))
        return ReplayResult(str(self._run.path), self._problems, self._unfinished, self._messages, differences)

    async def run(self) -> None:
        waiting = self._run.problems()
        async with open_ring(self._models.handles(), journal=self._journal) as ring:

            async def work() -> None:
                try:
                    for problem in waiting:
                        await self._replay(ring, problem)
                except RunError as error:  # kept, so that it is raised alone and not in an exception group
                    self._refusal = error
                    workers.cancel_scope.cancel()

            async with anyio.create_task_group() as workers:
                for _ in range(AT_ONCE):
                    workers.start_soon(work)

    async def _replay(self, ring: Ring, problem: ProblemHistory) -> None:
        number, self._problems = self._problems, self._problems + 1
        self._unfinished += problem.end is None
        async with self._busy[problem.key]:
            self._models.begin(problem)
            comparison = self._journal.begin(problem)
            with anyio.move_on_after(comparison.seconds + _AFTERWARDS):
                await ring.solve(task_of(problem))
            self._models.end(problem)
            self._journal.end(problem)
        self._messages += comparison.messages
        difference = comparison.difference()
        if difference is not None:
            self._differences[number] = difference
