"""Which problems are taken of a data set, and to which part of the data each belongs.

Both depend on a seed and the problem's id alone, not on the order of the data or on the other problems: a larger
sample holds the smaller one, and each problem keeps its part.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from arbiter.data.problems import Problem
from arbiter.data.training_rows import Split
from arbiter.protocols.errors import ConfigError


def stratified(problems: Sequence[Problem], limit: int, seed: int) -> list[Problem]:
    """``limit`` of ``problems``, from each source as many as its share of them all, in their order.

    Shares are rounded by largest remainders. All of them if there are no more than ``limit``.
    """
    strata: dict[str, list[Problem]] = {}
    for problem in problems:
        strata.setdefault(problem.source, []).append(problem)
    counts = shares({source: len(found) for source, found in strata.items()}, limit)
    kept = {
        problem.id
        for source, found in strata.items()
        for problem in sorted(found, key=lambda problem: _place(seed, "sample", problem.id))[: counts[source]]
    }
    return [problem for problem in problems if problem.id in kept]


def shares(sizes: dict[str, int], total: int) -> dict[str, int]:
    """``total`` divided in proportion to ``sizes``, by largest remainders; of equal ones the first name counts."""
    whole = sum(sizes.values())
    total = min(total, whole)
    found = {name: total * size // whole for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(total * sizes[name] % whole), name))
    for name in by_remainder[: total - sum(found.values())]:
        found[name] += 1
    return found


def split_of(problem: str, seed: int, validation: float, test: float) -> Split:
    """The part of the data that a problem belongs to, by its id: of ``validation`` and ``test`` the given shares."""
    place = _place(seed, "split", problem)
    return "test" if place < test else "validation" if place < test + validation else "train"


def check_shares(validation: float, test: float) -> None:
    """Raises ``ConfigError`` if the parts leave nothing to train on."""
    for name, share in (("validation", validation), ("test", test)):
        if not 0 <= share < 1:
            raise ConfigError(f"--{name} {share:g}: it is a share of the problems, from 0 to below 1")
    if validation + test >= 1:
        raise ConfigError(f"--validation {validation:g} and --test {test:g} leave no problem to train on")


def _place(seed: int, what: str, problem: str) -> float:
    """A number in [0, 1) that belongs to the problem."""
    name = hashlib.blake2b(msgspec.json.encode([seed, what, problem]), digest_size=8)
    return int.from_bytes(name.digest()) / 2**64
