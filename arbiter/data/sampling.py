"""Sample problems from a data set, and assign each to a part of the data.

Each problem has a pseudo-random number that depends only on a seed and its id. So its part of the data never
changes, and within each source a larger sample contains a smaller one.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from arbiter.data.problems import Problem
from arbiter.data.training_rows import Split
from arbiter.protocols.errors import ConfigError


def stratified(problems: Sequence[Problem], limit: int, seed: int) -> list[Problem]:
    """Return ``limit`` of ``problems`` in their order, from each source in proportion to its size.

    Shares are rounded by largest remainders. If there are at most ``limit`` problems, all are returned.
    """
    strata: dict[str, list[Problem]] = {}
    for problem in problems:
        strata.setdefault(problem.source, []).append(problem)
    counts = shares({source: len(found) for source, found in strata.items()}, limit)
    kept = {
        problem.id
        for source, found in strata.items()
        for problem in sorted(found, key=lambda problem: _position(seed, "sample", problem.id))[: counts[source]]
    }
    return [problem for problem in problems if problem.id in kept]


def shares(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Divide ``total`` in proportion to ``sizes``, by largest remainders. Equal remainders go by name.

    A total above the sum of the sizes is reduced to that sum.
    """
    whole = sum(sizes.values())
    total = min(total, whole)
    found = {name: total * size // whole for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(total * sizes[name] % whole), name))
    for name in by_remainder[: total - sum(found.values())]:
        found[name] += 1
    return found


def split_of(problem: str, seed: int, validation: float, test: float) -> Split:
    """Return the part of the data that a problem id belongs to. ``validation`` and ``test`` are shares in [0, 1)."""
    position = _position(seed, "split", problem)
    return "test" if position < test else "validation" if position < test + validation else "train"


def check_shares(validation: float, test: float) -> None:
    """Raise ``ConfigError`` if a share is outside [0, 1), or if both leave nothing to train on."""
    for name, share in (("validation", validation), ("test", test)):
        if not 0 <= share < 1:
            raise ConfigError(f"--{name} {share:g}: it must be a share of the problems, at least 0 and below 1")
    if validation + test >= 1:
        raise ConfigError(f"--validation {validation:g} and --test {test:g} leave no problem to train on: lower one")


def _position(seed: int, purpose: str, problem: str) -> float:
    """Return a pseudo-random number in [0, 1) that depends on the arguments alone."""
    digest = hashlib.blake2b(msgspec.json.encode([seed, purpose, problem]), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
