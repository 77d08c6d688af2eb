"""Find out what each step of a collection is worth for the answer: solve the problem from it, and grade the answer.

Each step has two values: the share of right answers if its draft is kept, and if the target's step replaces it. In both
cases the draft alone writes all steps after it. ``docs/how-to/collect-rows.md`` describes the use.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path

import anyio
import msgspec

from arbiter.actors.policies import DraftOnly
from arbiter.actors.ring import Ring, open_ring
from arbiter.actors.ring_setup import Models
from arbiter.actors.seeds import sample_seed
from arbiter.backends.opening import AnswerForm, answer_form
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.data.tasks import make_task
from arbiter.data.training_rows import StepValue
from arbiter.log.checksums import as_line
from arbiter.protocols.errors import ConfigError, RunError, os_reason
from arbiter.protocols.messages import Task
from arbiter.protocols.records import Candidate, Solution, StepRecord, Transcript
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.graders import Graders, open_graders
from arbiter.runs.model_opening import open_models
from arbiter.runs.record_files import read_records, read_results

ROLLOUTS = "rollouts.jsonl"

Prefix = tuple[tuple[str, str], ...]
"""The texts of the steps so far, each with its author if the draft reads authors."""


class RolloutPlan(msgspec.Struct, frozen=True):
    """What to roll out: the ``solutions`` of a collection, ``times`` from each step, graded with their ``problems``."""

    config: Config
    problems: Mapping[str, Problem]
    solutions: Sequence[Solution]
    times: int


def check_rollouts(config: Config, times: int) -> None:
    """Raise ``ConfigError`` if ``times`` rollouts of each step are impossible or all the same."""
    if times < 1:
        raise ConfigError(f"--rollouts {times}: give 1 or more")
    if times > 1 and config.sampling.temperature == 0:
        raise ConfigError(
            f"--rollouts {times}: at temperature 0 all rollouts of a step are the same: use 1, or set --temperature"
        )
    if config.models.targets:
        raise ConfigError("--rollouts: a value is of one target, but several are configured: use [models.target] alone")


class RolloutCounts(msgspec.Struct, frozen=True):
    """How many values were added, and why problems have none, one line for each."""

    values: int = 0
    failures: tuple[str, ...] = ()


async def roll_out(config: Config, problems: Sequence[Problem], folder: Path, times: int) -> RolloutCounts:
    """Append the values of all steps of the collection in ``folder`` that lack them.

    A problem's values are written together when its last one is known. A problem of which a rollout fails has none.
    Raises as ``bench``.
    """
    _cut_torn_line(folder / ROLLOUTS)
    known = {(value.problem, value.sample) for value in stored_values(folder)}
    results, _ = read_results(folder / "results.jsonl")
    solutions = [one.solution for one in results if (one.solution.problem, one.solution.sample) not in known]
    solutions = [one for one in solutions if one.finish_reason != "failed" and any(map(_pair, one.steps))]
    if not solutions:
        return RolloutCounts()
    alone = msgspec.structs.replace(config.with_run_type("draft", "--rollouts", drop_budget=True), audit=0.0)
    plan = RolloutPlan(alone, {one.id: one for one in problems}, solutions, times)
    form = await answer_form(alone)
    async with open_graders(alone) as graders, open_models(alone) as models:
        return await write_values(plan, models, graders, form, folder / ROLLOUTS)


async def write_values(
    plan: RolloutPlan, models: Models, graders: Graders, form: AnswerForm, path: Path
) -> RolloutCounts:
    """Roll out the solutions of ``plan`` with ``models``, and append their values to ``path``. Raises ``RunError``."""
    added, failures, waiting = 0, list[str](), iter(plan.solutions)

    async def work() -> None:
        nonlocal added
        for solution in waiting:
            try:
                values = await _Rollouts(plan, ring, graders, form, solution).values()
            except _NoValueError as error:
                failures.append(str(error))
                continue
            _append(path, values)
            added += len(values)

    async with open_ring(models) as ring, anyio.create_task_group() as workers:
        for _ in range(plan.config.limits.problems):
            workers.start_soon(work)
    return RolloutCounts(added, tuple(failures))


def stored_values(folder: Path) -> Iterator[StepValue]:
    """Yield the values in ``folder``. Raises ``RunError`` for a line that cannot be read."""
    if (folder / ROLLOUTS).exists():
        yield from read_records(folder / ROLLOUTS, StepValue)


class _NoValueError(Exception):
    """A rollout failed, or its answer could not be graded."""


class _Rollouts:
    """The rollouts of one solution, one after the other.

    At temperature 0 a rollout from a context is the same as any other one, also one that came through this context from
    an earlier step. So each context is solved once.
    """

    def __init__(self, plan: RolloutPlan, ring: Ring, graders: Graders, form: AnswerForm, solution: Solution) -> None:
        self._plan, self._ring, self._graders, self._form = plan, ring, graders, form
        self._solution = solution
        self._problem = plan.problems[solution.problem]
        draft = plan.config.models.draft
        self._reads_authors = draft is not None and draft.annotate
        self._known: dict[Prefix, float] = {}

    async def values(self) -> list[StepValue]:
        """Return the value of each step that has a draft and a step of the target."""
        found: list[StepValue] = []
        for index, record in enumerate(self._solution.steps):
            pair = _pair(record)
            if pair is None:
                continue
            before = tuple(one.kept for one in self._solution.steps[:index])
            kept, replaced = [await self._value((*before, candidate)) for candidate in pair]
            key = self._solution.problem, self._solution.sample, index
            found.append(StepValue(*key, kept, replaced, self._plan.times))
        return found

    async def _value(self, steps: tuple[Candidate, ...]) -> float:
        """Return the share of right answers after ``steps``. Raises ``_NoValueError`` if an answer cannot be graded."""
        shares = [await self._right(steps, number) for number in range(self._plan.times)]
        return sum(shares) / len(shares)

    async def _right(self, steps: tuple[Candidate, ...], number: int) -> float:
        is_greedy = self._plan.config.sampling.temperature == 0
        if is_greedy and (known := self._known.get(self._prefix(steps))) is not None:
            return known
        task = self._task(steps, number)
        added: tuple[StepRecord, ...] = ()
        if task is not None:
            solved = await self._ring.solve(task)
            if solved.finish_reason == "failed":
                raise _NoValueError(f"a rollout of the problem {self._problem.id!r} failed: {solved.error}")
            added = solved.steps
        right = await self._graded((*(StepRecord((one,), 0) for one in steps), *added))
        if is_greedy:
            for count in range(len(added) + 1):
                self._known[self._prefix((*steps, *(one.kept for one in added[:count])))] = right
        return right

    def _task(self, steps: tuple[Candidate, ...], number: int) -> Task | None:
        """Return the task to continue after ``steps``; None if they are the whole answer."""
        task = make_task(self._plan.config, self._problem, self._solution.sample)
        limits, last = task.limits, steps[-1]
        left = limits.max_tokens - sum(one.usage.completion_tokens for one in steps)
        if last.stop_reason != "separator" or left < 1 or limits.max_steps <= len(steps):
            return None
        return msgspec.structs.replace(
            task,
            transcript=reduce(Transcript.extended, (one.step for one in steps), task.transcript),
            policy=DraftOnly(),
            limits=msgspec.structs.replace(limits, max_tokens=left, max_steps=limits.max_steps - len(steps)),
            seed=sample_seed(task.seed, 1 + number + self._plan.times * len(steps)),
        )

    async def _graded(self, records: tuple[StepRecord, ...]) -> float:
        solution = msgspec.structs.replace(self._solution, steps=records, finish_reason="answered")
        grade = (await self._graders.result(solution, self._problem, self._form)).grade
        if grade.right is None:
            raise _NoValueError(f"a rollout of the problem {self._problem.id!r} could not be graded: {grade.reason}")
        return float(grade.right)

    def _prefix(self, steps: Sequence[Candidate]) -> Prefix:
        return tuple((one.text, one.author if self._reads_authors else "") for one in steps)


def _pair(record: StepRecord) -> tuple[Candidate, Candidate] | None:
    """Return the draft and the target's first step; None if one of them is missing."""
    return (record.draft, record.targets[0]) if record.draft is not None and record.targets else None


def _cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, as a killed program leaves it: its problem is rolled out again."""
    if path.exists() and (stored := path.read_bytes()) and not stored.endswith(b"\n"):
        replace_file(path, stored[: stored.rfind(b"\n") + 1])


def _append(path: Path, values: Sequence[StepValue]) -> None:
    """Write the values of one solution together."""
    try:
        with path.open("ab", buffering=0) as file:
            file.write(b"".join(as_line(msgspec.json.encode(value)) for value in values))
    except OSError as error:
        raise RunError(f"cannot write {path}: {os_reason(error)}") from error
