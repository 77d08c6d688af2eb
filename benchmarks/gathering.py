"""Measure what it gains and costs that escalations gather before they go to the target, in virtual time.

    python benchmarks/gathering.py [--problems 256] [--acceptance 0.7] [--seed 0] [--running 64] [--mixed] \
        [--seconds 0.03]

Models and servers are those of ``benchmarks/schedules.py``. The ring solves the same problems twice, with the defaults
of a configuration: without gathering, and with escalations held for at most ``seconds``. Both must keep the same steps;
the program checks that. By default a server stops decoding while it reads a prompt; with ``mixed`` it does not, and a
configuration would not gather.

docs/explanation/performance.md has the results.
"""

import sys
from functools import partial

import cyclopts
import msgspec
from schedules import ring
from simulated_fleet import GATHER, Fleet, Found, run_on

from arbiter.protocols.ports import Gather
from arbiter.simulation.synthetic_workload import SyntheticWorkload


class Gain(msgspec.Struct, frozen=True):
    """The ring without gathering, and with it."""

    without: Found
    gathered: Found

    @property
    def makespan(self) -> float:
        """The makespan with gathering, divided by that without."""
        return self.gathered.makespan / self.without.makespan

    @property
    def latency(self) -> float:
        """The mean latency with gathering, divided by that without."""
        return self.gathered.latency / self.without.latency


def measure(world: SyntheticWorkload, running: int, mixed: bool, gather: Gather = GATHER) -> Gain:
    """Run the ring without and with gathering. Raises ``RuntimeError`` if they kept different steps."""
    fleets = [Fleet(world, running, mixed) for _ in range(2)]
    models = [fleet.models(held, grouped=not mixed) for fleet, held in zip(fleets, (None, gather), strict=True)]
    for fleet, used in zip(fleets, models, strict=True):
        run_on(fleet, partial(ring, models=used, verify="auto"))
    if fleets[0].kept != fleets[1].kept:
        raise RuntimeError("gathering changed the steps")
    return Gain(*(fleet.found() for fleet in fleets))


def cells(gain: Gain) -> list[str]:
    """Return the figures of a comparison, in the order of ``COLUMNS``."""
    waits = gain.gathered.gathering
    mean, largest = (1000 * (seconds or 0.0) for seconds in (waits.mean_seconds, waits.largest_seconds))
    return [
        f"{gain.makespan:.2f}",
        f"{gain.latency:.2f}",
        f"{gain.without.servers['target'].passes} → {gain.gathered.servers['target'].passes}",
        str(waits.held),
        f"{mean:.0f}, {largest:.0f}",
        f"{waits.together or 0.0:.1f}",
    ]


COLUMNS = ("makespan", "mean latency", "reading passes of the target", "held", "ms: mean, largest", "released together")


def variants() -> list[list[str]]:
    """Return the rows of the table in the documents: a label, and the figures with one option changed."""

    def row(label: str, problems: int = 256, acceptance: float = 0.7, seed: int = 0, mixed: bool = False) -> list[str]:
        return [label, *cells(measure(SyntheticWorkload(problems, acceptance, seed), 64, mixed))]

    return [
        row("nothing"),
        row("`--seed 1`", seed=1),
        row("`--acceptance 0.5`", acceptance=0.5),
        row("`--acceptance 0.9`", acceptance=0.9),
        row("`--problems 64`", problems=64),
        row("`--problems 16`", problems=16),
        row("`--mixed`", mixed=True),
    ]


def main(
    *,
    problems: int = 256,
    acceptance: float = 0.7,
    seed: int = 0,
    running: int = 64,
    mixed: bool = False,
    seconds: float = GATHER.seconds,
) -> None:
    """Compare the ring with and without gathering on ``problems`` problems."""
    world = SyntheticWorkload(problems, acceptance, seed)
    gain = measure(world, running, mixed, msgspec.structs.replace(GATHER, seconds=seconds))
    for name, cell in zip(COLUMNS, cells(gain), strict=True):
        sys.stdout.write(f"{name}: {cell}\n")


if __name__ == "__main__":
    cyclopts.run(main)
