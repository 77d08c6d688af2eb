"""How the problems of a run are solved elsewhere than in the ring of this process."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from arbiter.actors.slots import Occupancy
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.log.reader import LOG
from arbiter.protocols.errors import ArbiterError
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.records import Solution
from arbiter.runs.folder import RunFolder


@dataclass(frozen=True)
class OpenSession:
    """A session of a run that has begun, for those who solve its problems.

    - ``log`` is the path of its ``events.jsonl``, and ``run`` the id of the run. ``session`` counts from 0.
    - ``seconds`` returns what the run's clock shows.
    - ``left`` has what is to be solved: problems and numbers of samples, in their order.
    - ``begun`` has the indexes in ``left`` of those that earlier sessions began and did not end.
    """

    config: Config
    log: Path
    run: str
    session: int
    seconds: Callable[[], float]
    left: Sequence[tuple[Problem, int]]
    begun: frozenset[int]


@dataclass(frozen=True)
class SolvingCost:
    """What solving took: the CPU seconds of other processes, None if they are not known.

    ``kv_memory`` is the memory of the models there, and ``steps_as_text`` says why some read their own steps as text.
    """

    cpu_seconds: float | None
    kv_memory: Mapping[str, KVMemory] = field(default_factory=dict[str, KVMemory])
    steps_as_text: Mapping[str, str] = field(default_factory=dict[str, str])


class SolvingWatcher(Protocol):
    """The part of ``arbiter.runs.bench.Watcher`` that a solver calls."""

    def notice(self, text: str) -> None: ...
    def solving(self, occupancy: Callable[[], Mapping[str, Occupancy]]) -> None: ...


class ProblemSolver(Protocol):
    """Solves the problems of a run in other processes."""

    def check(self, config: Config) -> None:
        """Raise ``ConfigError`` if runs of ``config`` cannot be solved this way. Nothing has started."""
        ...

    async def solve(
        self, session: OpenSession, done: Callable[[Solution], Awaitable[None]], watcher: SolvingWatcher
    ) -> SolvingCost:
        """Solve what is left of ``session``. ``done`` receives each solution once, when it is in the log.

        Raises ``ConfigError``, ``BackendError`` or ``RunError``. If cancelled, what is in progress stays in progress.
        """
        ...


async def solved_elsewhere(
    solver: ProblemSolver,
    config: Config,
    folder: RunFolder,
    left: Iterable[tuple[Problem, int]],
    done: Callable[[Solution], Awaitable[None]],
    watcher: SolvingWatcher,
    failures: list[ArbiterError],
) -> SolvingCost:
    """Solve what is left with ``solver``. Its error is added to ``failures``: what was solved is graded first."""
    try:
        return await solver.solve(_session(config, folder, list(left)), done, watcher)
    except ArbiterError as error:
        failures.append(error)
        return SolvingCost(None)


def _session(config: Config, folder: RunFolder, left: list[tuple[Problem, int]]) -> OpenSession:
    journal = folder.journal
    begun = journal.earlier.unfinished
    return OpenSession(
        config,
        folder.path / LOG,
        journal.earlier.run,
        journal.earlier.sessions,
        lambda: journal.seconds,
        left,
        frozenset(index for index, (problem, sample) in enumerate(left) if (problem.id, sample) in begun),
    )
