"""What-if replay: run the actors on recorded answers with another policy, concurrency or server speed.

A problem that needs an answer that was not recorded diverges and has no result: no answer is invented.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import anyio
import msgspec

from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.opening import answer_form
from arbiter.config.config import Config
from arbiter.config.model_tables import RouterTable
from arbiter.grading import Grade
from arbiter.grading.answers import Reference
from arbiter.log.history import Key, ProblemHistory
from arbiter.log.identity import recorded_grader
from arbiter.log.run import Run
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Graded
from arbiter.protocols.ports import Generator, ModelHandle, Scorer
from arbiter.protocols.records import Record, ScoreKind, Solution
from arbiter.replay.recorded_answers import Divergence, DivergenceJournal, KnownAnswers, Speeds
from arbiter.replay.recorded_models import UNLIMITED
from arbiter.replay.recorded_tasks import task_of
from arbiter.replay.virtual_time import run_virtually
from arbiter.runs.graders import Graders, open_graders
from arbiter.runs.results import Result, Summary, summary_of
from arbiter.runs.stored_problems import problem_of, read_problems

_NO_TEXTS = "the log has no texts to grade (log.record = {record!r}): record the run with log.record = 'full'"


class WhatIf(Record, frozen=True):
    """The result of a what-if replay.

    - ``exact``: the number of problems whose every answer was recorded.
    - ``left``: the problems that diverged from the recording.
    - ``unfinished``: the number of problems without a recorded end.
    - ``recorded``, ``replayed``: the figures of the exact problems in the run and in the replay. Times are known only
      if no problem diverged, because diverged problems would have shared the servers. The recorded times of a point of
      a sweep are not known either: its answers came from other runs.
    """

    run: str
    exact: int
    left: tuple[Divergence, ...]
    unfinished: int
    recorded: Summary
    replayed: Summary


def what_if(run: Run, before: Config, config: Config, speeds: Speeds) -> WhatIf:
    """Solve the recorded problems with the policy and concurrency of ``config``, at other ``speeds``.

    ``before`` is the configuration of the run. Solutions that differ from the recorded ones are graded, in worker
    processes. In a log without texts they cannot be graded: no replayed solution has a grade then. Raises ``RunError``
    if the log cannot be read or does not hold the answers.
    """
    if run.started.record == "decisions":
        raise RunError(f"{run.path} was recorded with log.record = 'decisions', which leaves out the answers")
    problems = list(run.problems())
    finished = {problem.key: problem for problem in problems if problem.end is not None}
    again = replay_problems(run, before, config, speeds, list(finished.values()), run.grades())
    whole = not again.left and len(finished) == len(problems)
    return WhatIf(
        run=str(run.path),
        exact=len(again.replayed),
        left=again.left,
        unfinished=len(problems) - len(finished),
        recorded=_summary(before, again.recorded, _taken(finished.values()) if whole and not run.is_shared else None),
        replayed=_summary(config, again.replayed, again.seconds if whole else None),
    )


class ReplayedProblems(NamedTuple):
    """Problems that were replayed with other rules: those that ``left`` the recording, and the results of the others.

    ``seconds`` is the virtual time of all of them together.
    """

    left: tuple[Divergence, ...]
    recorded: list[Result]
    replayed: list[Result]
    seconds: float


def replay_problems(
    run: Run,
    before: Config,
    config: Config,
    speeds: Speeds,
    problems: Collection[ProblemHistory],
    grades: dict[Key, Graded],
) -> ReplayedProblems:
    """Replay problems of ``run`` that have ended, with their recorded ``grades``, as ``what_if`` replays all of them.

    Raises ``RunError`` as ``what_if`` does.
    """
    simulation = Simulation(problems, config, speeds)
    run_virtually(simulation.run)
    left = simulation.journal.left
    solutions = {key: solution for key, solution in simulation.solutions.items() if key not in left}
    ended = {problem.key: problem for problem in problems}
    results = _Results(run, before, {key: ended[key] for key in solutions}, grades)
    recorded, replayed = results.recorded(), anyio.run(results.replayed, solutions)
    return ReplayedProblems(tuple(left.values()), recorded, replayed, simulation.seconds)


class Simulation:
    """Runs the ring on recorded answers, in virtual time."""

    def __init__(self, problems: Iterable[ProblemHistory], config: Config, speeds: Speeds) -> None:
        self._config = config
        self._problems = list(problems)
        self._answers = KnownAnswers(speeds, not config.policy().decides)
        self.journal = DivergenceJournal(self._answers)
        self.solutions: dict[Key, Solution] = {}
        self.seconds = 0.0
        for problem in self._problems:
            self._answers.add(problem)

    async def run(self) -> None:
        policy, started = self._config.policy(), anyio.current_time()
        tasks = (task_of(problem, policy) for problem in self._problems)
        async with open_ring(self._models(), journal=self.journal) as ring:
            await solve_all(ring, tasks, self._config.limits.problems, self._done)
        self.seconds = round(anyio.current_time() - started, 6)

    async def _done(self, solution: Solution) -> None:
        self.solutions[solution.problem, solution.sample] = solution

    def _models(self) -> Models:
        tables, answers = self._config.models, self._answers
        draft = ModelHandle[Generator](answers, tables.draft.in_flight if tables.draft else UNLIMITED)
        target = ModelHandle[Generator](answers, tables.target.in_flight if tables.target else UNLIMITED)
        readers: dict[ScoreKind, RouterTable | None] = {
            "prm": tables.prm,
            "router": tables.router,
            "judge": tables.judge,
        }
        scorers: dict[ScoreKind, ModelHandle[Scorer]] = {
            score_kind: ModelHandle[Scorer](answers, table.in_flight if table else UNLIMITED)
            for score_kind, table in readers.items()
        }
        targets = {name: ModelHandle[Generator](answers, table.in_flight) for name, table in tables.targets.items()}
        return Models(draft, next(iter(targets.values()), target), scorers, targets)


class _Results:
    """Results of the same problems, as recorded and as replayed."""

    def __init__(
        self, run: Run, config: Config, problems: dict[Key, ProblemHistory], grades: dict[Key, Graded]
    ) -> None:
        self._run = run
        self._config = config
        self._grades = grades
        self._recorded = {key: solution for key, problem in problems.items() if (solution := problem.solution())}

    def recorded(self) -> list[Result]:
        return [self._recorded_result(key, solution) for key, solution in self._recorded.items()]

    async def replayed(self, solutions: dict[Key, Solution]) -> list[Result]:
        """Return the replayed results. A solution with the recorded text keeps its grade; the others are graded.

        If others cannot be graded, because the log has no texts, no result has a grade.
        """
        results = {key: self._recorded_result(key, solution) for key, solution in solutions.items()}
        others = [
            key
            for key, solution in solutions.items()
            if key in self._grades and solution.text != self._recorded[key].text
        ]
        if not others:
            return list(results.values())
        started = self._run.started
        if started.record != "full":
            nothing = Grade(None, reason=_NO_TEXTS.format(record=started.record))
            return [msgspec.structs.replace(result, grade=nothing) for result in results.values()]
        stored = read_problems(self._run.path.parent, recorded_grader(started.identity))
        problems = {key: problem_of(results[key], stored) for key in others}
        form = await answer_form(self._config)

        async def grade(graders: Graders, key: Key) -> None:
            results[key] = await graders.result(solutions[key], problems[key], form)

        async with open_graders(self._config) as graders, anyio.create_task_group() as grading:
            for key in problems:
                grading.start_soon(grade, graders, key)
        return list(results.values())

    def _recorded_result(self, key: Key, solution: Solution) -> Result:
        graded = self._grades.get(key)
        if graded is None:
            return Result(solution, Grade(None, reason="not graded in the run"))
        return Result(solution, Grade.recorded(graded), _reference(graded), graded.grader, graded.grader_name)


def _reference(graded: Graded) -> str | Reference | None:
    reference = graded.reference
    return msgspec.convert(reference, Reference) if isinstance(reference, dict) else reference


def _taken(problems: Iterable[ProblemHistory]) -> float:
    starts = [problem.start.mono for problem in problems]
    ends = [problem.ended.mono for problem in problems if problem.ended is not None]
    return round(max(ends) - min(starts), 6) if ends else 0.0


def _summary(config: Config, results: list[Result], seconds: float | None) -> Summary:
    summary = summary_of(config, results, seconds)
    if seconds is not None:
        return summary
    nothing = msgspec.structs.replace(summary.latency, mean=None, p50=None, p95=None)
    return msgspec.structs.replace(summary, latency=nothing)
