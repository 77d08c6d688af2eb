"""Random numbers that depend on what is requested, never on when. Results therefore do not depend on the order."""

import hashlib

from arbiter.protocols.records import Author


def step_seed(seed: int, problem: str, step: int, role: Author, sample: int) -> int:
    """Return the sampling seed of one request, 0 to 2**31 - 1 (servers take 32-bit signed seeds)."""
    return _derived(f"{seed}/{problem}/{step}/{role}/{sample}") >> 33


def sample_seed(seed: int, sample: int) -> int:
    """Return the seed of one sample of a problem. The first sample has the run's seed.

    So a run with more samples repeats the samples of a run with fewer, and a single sample equals a run without
    samples.
    """
    return _derived(f"{seed}/sample/{sample}") >> 33 if sample else seed


def part_seed(seed: int, part: int) -> int:
    """Return the seed of one of several requests for the same step. The first one has the seed of the step."""
    return _derived(f"{seed}/part/{part}") >> 33 if part else seed


def unit_draw(seed: int, problem: str, step: int, purpose: str) -> float:
    """Return a number in [0, 1), uniform over problems and steps. Each ``purpose`` has independent numbers."""
    return (_derived(f"{seed}/{problem}/{step}/{purpose}") >> 11) / 2**53  # the 53 bits of a float; never 1.0


def _derived(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
