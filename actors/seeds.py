"""Randomness that depends on what is asked and never on when: order independence rests on it."""

import hashlib

from arbiter.protocols.records import Author


def step_seed(seed: int, problem: str, step: int, role: Author, sample: int) -> int:
    """The sampling seed of one request, 0 to 2**31 - 1 (servers take 32-bit signed seeds)."""
    return _derived(f"{seed}/{problem}/{step}/{role}/{sample}") >> 33


def sample_seed(seed: int, sample: int) -> int:
    """The seed of one decoding of a problem, in place of the run's; the first has the run's own.

    So more samples add to what fewer of them gave, and a single one gives what a run without samples does.
    """
    return _derived(f"{seed}/sample/{sample}") >> 33 if sample else seed


def unit_draw(seed: int, problem: str, step: int, purpose: str) -> float:
    """A number in [0, 1), uniform over problems and steps; ``purpose`` keeps two uses apart."""
    return (_derived(f"{seed}/{problem}/{step}/{purpose}") >> 11) / 2**53  # all 53 bits of a float, never 1.0


def _derived(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
