"""The tables of ``benchmarks/schedules.py`` for the documents: medians and ranges over five seeds."""

from collections.abc import Callable
from functools import cache
from statistics import median

from markdown_tables import markdown
from schedules import SCHEDULES, best_known, measure
from simulated_fleet import Found

from arbiter.simulation.synthetic_workload import SyntheticWorkload

SEEDS = range(5)


@cache
def _schedules(acceptance: float = 0.7, seed: int = 0, mixed: bool = False) -> dict[str, Found]:
    return measure(SyntheticWorkload(256, acceptance, seed), 64, mixed)


def over_seeds(figure: Callable[[dict[str, Found]], float]) -> str:
    """Return the median of a figure of the schedules over the seeds, and its range."""
    return ranged([figure(_schedules(seed=seed)) for seed in SEEDS])


def ranged(figures: list[float]) -> str:
    """Return the median of the figures and their range, to two digits."""
    return f"{median(figures):.2f} ({min(figures):.2f}–{max(figures):.2f})"


def makespan(name: str) -> Callable[[dict[str, Found]], float]:
    """Return the figure *makespan of a schedule, divided by that of ours*."""
    return lambda results: results[name].makespan / results["ours"].makespan


def latency_ratio(name: str) -> Callable[[dict[str, Found]], float]:
    """Return the figure *mean latency of a schedule, divided by that of ours*."""
    return lambda results: results[name].latency / results["ours"].latency


def published_over(name: str) -> Callable[[dict[str, Found]], float]:
    """Return the figure *makespan of the published schedule, divided by that of another one*."""
    return lambda results: results["published"].makespan / results[name].makespan


def beyond_best(name: str) -> Callable[[dict[str, Found]], float]:
    """Return the figure *makespan of a schedule, divided by that of the best known one*."""
    return lambda results: results[name].makespan / results[best_known(results)].makespan


def schedules() -> str:
    """Return the schedules of 256 problems over five seeds: acceptance 0.7, servers that decode or read."""
    first = _schedules()
    best = [best_known(_schedules(seed=seed)) for seed in SEEDS]
    rows = [
        [
            name,
            f"{each.makespan:.2f}",
            over_seeds(makespan(name)),
            f"{each.latency:.2f}",
            over_seeds(latency_ratio(name)),
            f"{best.count(name)} of {len(SEEDS)}",
            each.servers["target"].requests,
            ", ".join(f"{load.utilisation(each.makespan):.0%}" for load in each.servers.values()),
        ]
        for name, each in first.items()
    ]
    header = (
        "schedule | makespan, s | / ours | mean latency, s | / ours | best known | target requests "
        "| busy: draft, router, target"
    )
    return markdown(header, rows)


def schedules_reading() -> str:
    """Return how the draft's server reads in each schedule, and the makespans against two others."""
    rows: list[list[str]] = []
    for name, each in _schedules().items():
        draft = each.servers["draft"]
        counts = [f"{draft.requests:,}", f"{draft.passes:,}", f"{draft.reading:.1f}"]
        rows.append([name, *counts, over_seeds(published_over(name)), over_seeds(beyond_best(name))])
    return markdown("schedule | draft requests | reading passes | reading, s | published / it | it / best known", rows)


def schedules_varied() -> str:
    """Return the schedules with one thing changed at a time, each divided by ours."""
    variants = {
        "seed 0, as above": _schedules(),
        "`--acceptance 0.5`": _schedules(acceptance=0.5),
        "`--acceptance 0.9`": _schedules(acceptance=0.9),
        "`--mixed`": _schedules(mixed=True),
    }
    names = [name for name in SCHEDULES if name != "ours"]
    rows: list[list[str]] = []
    for label, results in variants.items():
        pairs = [(makespan(name)(results), latency_ratio(name)(results)) for name in names]
        best = f"{beyond_best('ours')(results):.2f} ({best_known(results)})"
        rows.append([label, *(f"{one:.2f}, {other:.2f}" for one, other in pairs), best])
    return markdown(f"changed | {' | '.join(names)} | makespan of ours / best known", rows)
