"""Yield each problem of a log once, although a resumed run may have started it several times."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from arbiter.log.history import Key, ProblemHistory, histories
from arbiter.protocols.events import Event, Graded, ProblemEnded, StartProblemEvent


def latest_problems(log: Callable[[], Iterable[Event]]) -> Iterator[tuple[ProblemHistory, Graded | None]]:
    """Yield the history and the last grade of each problem or sample. ``log`` returns the events, and is called twice.

    A problem that was started again is there once, as it was started last. The order is that of ``histories``. Memory
    holds the open problems, and for each problem its id and its short grade (``right`` and ``answer``).
    """
    grades, histories_of = _first_reading(log())
    seen: Counter[Key] = Counter()
    for problem in histories(log()):
        seen[problem.key] += 1
        if seen[problem.key] == histories_of[problem.key]:  # not equal either if the log has grown since
            yield problem, grades.get(problem.key)


def _first_reading(log: Iterable[Event]) -> tuple[dict[Key, Graded], Counter[Key]]:
    """Return the last grade of each problem, and how many histories ``histories`` yields of it."""
    grades: dict[Key, Graded] = {}
    count: Counter[Key] = Counter()
    unfinished: set[Key] = set()
    for event in log:
        key = event.problem or "", event.sample
        match event.payload:
            case StartProblemEvent():
                unfinished.add(key)
                grades.pop(key, None)  # it was for an earlier start
            case ProblemEnded() if key in unfinished:
                unfinished.remove(key)
                count[key] += 1
            case Graded(right=right, answer=answer):
                grades[key] = Graded(right, answer)
            case _:
                pass
    count.update(unfinished)
    return grades, count
