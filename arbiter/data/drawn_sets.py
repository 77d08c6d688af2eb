"""The data sets that are drawn from a seed, without end."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Literal

import msgspec

from arbiter.data.problems import Problem, problem_of
from arbiter.pocket import world
from arbiter.pocket.program_world import program_problems
from arbiter.pocket.tool_world import tool_problems
from arbiter.protocols.errors import DataError

USUAL_SEED = 1
USUAL_LIMIT = 200


class DrawnSet(msgspec.Struct, frozen=True):
    """A world of problems in one of its splits. ``draw`` yields problems without their ids.

    ``grader`` is the name of the grader for its answers; None for the usual one.
    """

    draw: Callable[[int], Iterator[Problem]]
    grader: Literal["text", "code"] | None = None

    def problems(self, name: str, seed: str, limit: int | None) -> list[Problem]:
        """Return the first ``limit`` problems for a seed, which is a whole number in text. Raises ``DataError``."""
        try:
            drawn = islice(self.draw(int(seed or USUAL_SEED)), limit or USUAL_LIMIT)
        except ValueError as error:
            raise DataError(f"{name}:{seed}: the seed must be a whole number, as in {name}:1") from error
        return [
            msgspec.structs.replace(problem, id=f"{name}-{seed or USUAL_SEED}-{index}")
            for index, problem in enumerate(drawn)
        ]


def _arithmetic(split: world.Split) -> Callable[[int], Iterator[Problem]]:
    def draw(seed: int) -> Iterator[Problem]:
        return (Problem("", problem.question, str(problem.answer)) for problem in world.problems(seed, split))

    return draw


def _programs(seed: int) -> Iterator[Problem]:
    return (Problem("", problem.question, problem.answer) for problem in program_problems(seed))


def _functions(seed: int) -> Iterator[Problem]:
    for problem in program_problems(seed):
        yield Problem("", problem.task, row={"question": problem.task, "test_list": [*problem.tests]})


def _turns(seed: int) -> Iterator[Problem]:
    """Yield each turn of each conversation as a problem."""
    for problem in tool_problems(seed):
        yield from (problem_of(row, "pocket-tools", "") for row in problem.rows())


DRAWN: dict[str, DrawnSet] = {
    "pocket": DrawnSet(_arithmetic("test")),
    "pocket-train": DrawnSet(_arithmetic("train")),
    "pocket-programs": DrawnSet(_programs, "text"),
    "pocket-functions": DrawnSet(_functions, "code"),
    "pocket-tools": DrawnSet(_turns),
}
"""The drawn sets by name."""
