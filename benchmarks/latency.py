"""Measure the latency of one problem at a time, with and without drafting ahead and verified escalation.

    python benchmarks/latency.py [--problems 64] [--seed 0] [--lookahead 1] [--json]
    python benchmarks/latency.py --draft 8B --target 70B@4xH100 --acceptance 0.7,0.9

Times are virtual. One problem is in the ring at a time, over simulated servers (docs/explanation/performance.md). Each
schedule has idle servers of its own. All schedules must keep the same steps; the program checks that.

Drafting ahead can *hide* a draft that is written while the step before it is scored, or rewritten by the target. It
helps only if that step keeps the text of its draft: because the draft is accepted, or because the target writes the
same text. One step ahead, the hidden time is the shorter of the draft and the work that it overlaps. ``_all_hidden``
computes from the seconds of each request how long the problems would take if all of that were hidden. ``hidden`` is the
share of this saving that the schedule reached.

*Wasted* are the tokens that the draft's server wrote in addition to the drafts that were requested. Those of cancelled
requests are included.
"""

import sys
from statistics import fmean
from typing import Annotated

import cyclopts
import msgspec
from cyclopts import Parameter

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import LearnedRouter
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.protocols.ports import ModelHandle, Scorer
from arbiter.protocols.records import ScoreKind, Solution, StepRecord
from arbiter.replay.virtual_time import run_virtually
from arbiter.simulation.placement import Placement, placed
from arbiter.simulation.server import SimulatedGenerator, SimulatedScorer, SimulatedServer
from arbiter.simulation.synthetic_workload import AGREEING, Quantiles, SyntheticWorkload, tokens_of


class Schedule(msgspec.Struct, frozen=True):
    """What is on: the number of steps drafted ahead (None: set by the controller), and verified escalation."""

    name: str
    lookahead: int | None
    verify: Verify


class Reading(msgspec.Struct, frozen=True):
    """Mean latency in virtual seconds, and its ratio to that of the sequential schedule.

    ``hideable`` is what drafting ahead can hide, in seconds per problem, and ``hidden`` the share of it that was
    hidden. ``agreed`` is the share of the target's tokens that verification saved. ``spent`` has the share of each
    model in the requests' seconds, without drafts that were never requested.
    """

    acceptance: float
    schedule: str
    latency: float
    ratio: float
    hideable: float | None
    hidden: float | None
    hits: int
    wasted_tokens: int
    wasted_share: float
    agreed: float
    spent: dict[str, float]


class Run(msgspec.Struct, frozen=True):
    """The solutions of a schedule, and the number of tokens that the draft's server wrote."""

    solutions: list[Solution]
    drafted: int

    @property
    def latency(self) -> float:
        return fmean(solution.seconds for solution in self.solutions)

    @property
    def steps(self) -> list[StepRecord]:
        return [step for solution in self.solutions for step in solution.steps]


def main(
    problems: int = 64,
    seed: int = 0,
    *,
    lookahead: int = 1,
    draft: str = "1.5B",
    router: str = "PRM-1.5B",
    target: str = "7B",
    gpu: str = "H100",
    acceptance: str = "0.5,0.7,0.9,0.95",
    agreeing: str = "",
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure each schedule at each acceptance rate.

    Models are MODEL, MODEL@GPU or MODEL@4xGPU. Separate several acceptance rates by commas. ``agreeing`` are quantiles,
    separated by commas, of the share of a rejected draft that the target would have written itself; the default is
    ``AGREEING``.
    """
    places = placements(draft, router, target, gpu)
    matches = Quantiles(_numbers(agreeing)) if agreeing else AGREEING
    readings = [
        one
        for accepted in _numbers(acceptance)
        for one in measure(SyntheticWorkload(problems, accepted, seed, agreeing=matches), places, schedules(lookahead))
    ]
    sys.stdout.write(msgspec.json.encode(readings).decode() if as_json else table(readings))
    sys.stdout.write("\n")


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def placements(
    draft: str = "1.5B", router: str = "PRM-1.5B", target: str = "7B", gpu: str = "H100"
) -> dict[str, Placement]:
    """Return the models and their GPUs. Raises ``ConfigError`` for an unknown name."""
    return {name: placed(text, gpu) for name, text in (("draft", draft), ("router", router), ("target", target))}


def schedules(lookahead: int = 1) -> tuple[Schedule, ...]:
    """Return the schedules to compare; the first one is the baseline."""
    return (
        Schedule("sequential", 0, "off"),
        Schedule("ahead", lookahead, "off"),
        Schedule("verified", 0, "on"),
        Schedule("both", lookahead, "on"),
        Schedule("auto", None, "auto"),
    )


def measure(world: SyntheticWorkload, places: dict[str, Placement], schedules: tuple[Schedule, ...]) -> list[Reading]:
    """Run each schedule. Raises ``RuntimeError`` if two of them kept different steps."""
    runs = {schedule.name: _solved(world, places, schedule) for schedule in schedules}
    sequential = runs["sequential"]
    for run in runs.values():
        if _kept(run) != _kept(sequential):
            raise RuntimeError("two schedules kept different steps")
    return [_reading(world.acceptance, one.name, runs, one.lookahead or 0) for one in schedules]


def _reading(acceptance: float, name: str, runs: dict[str, Run], lookahead: int) -> Reading:
    """Make a reading. What can be hidden is computed from the schedule with the same verification and no lookahead."""
    run = runs[name]
    before = {"ahead": runs["sequential"], "both": runs["verified"]}.get(name)
    hidden = hideable = None
    if before is not None:
        hideable = before.latency - fmean(_all_hidden(solution, lookahead) for solution in before.solutions)
        hidden = round((before.latency - run.latency) / hideable, 4) if hideable > 0 else None
    wasted = run.drafted - sum(step.draft.usage.completion_tokens for step in run.steps if step.draft)
    rewritten = [step.targets[0] for step in run.steps if step.targets]
    agreed = sum(one.prefix_match.matched for one in rewritten if one.prefix_match)
    return Reading(
        acceptance=acceptance,
        schedule=name,
        latency=round(run.latency, 6),
        ratio=round(run.latency / runs["sequential"].latency, 4),
        hideable=None if hideable is None else round(hideable, 6),
        hidden=hidden,
        hits=sum(solution.lookahead.hits for solution in run.solutions),
        wasted_tokens=wasted,
        wasted_share=round(wasted / run.drafted, 4),
        agreed=round(agreed / max(sum(one.usage.completion_tokens for one in rewritten), 1), 4),
        spent=_spent(run),
    )


def _spent(run: Run) -> dict[str, float]:
    seconds = {
        "draft": sum(step.draft.seconds for step in run.steps if step.draft),
        "score": sum(step.draft.rating.seconds for step in run.steps if step.draft and step.draft.rating),
        "target": sum(one.seconds for step in run.steps for one in step.targets),
    }
    return {name: round(each / sum(seconds.values()), 4) for name, each in seconds.items()}


def _all_hidden(solution: Solution, depth: int) -> float:
    """Return the seconds that the problem takes if each draft begins as soon as the text before it is known.

    A draft is written ahead of at most ``depth`` undecided steps. It is useful if all of them keep the texts of their
    drafts.
    """
    requested = [0.0]  # when each step became the next one
    written = list[float]()  # when its draft was finished
    for place, step in enumerate(solution.steps):
        if step.draft is None or step.draft.rating is None:
            raise RuntimeError(f"a step of {solution.problem} has no draft or no score")
        begun, before = requested[-1], solution.steps[place - 1] if place else None
        if before and before.draft and before.kept.text == before.draft.text and depth:
            back = max(place - depth, 0)  # once its draft is in use, the next ones may be written
            begun = min(begun, max(written[-1], written[back], requested[back]))
        written.append(begun + step.draft.seconds)
        rest = step.draft.rating.seconds + sum(one.seconds for one in step.targets)
        requested.append(max(written[-1], requested[-1]) + rest)
    return requested[-1]


def _solved(world: SyntheticWorkload, places: dict[str, Placement], schedule: Schedule) -> Run:
    solutions: list[Solution] = []
    servers = {name: SimulatedServer(place.speed(running=64, mixed=False)) for name, place in places.items()}

    async def done(solution: Solution) -> None:
        solutions.append(solution)

    async def body() -> None:
        draft, target = (SimulatedGenerator(servers[name], world.write, tokens_of) for name in ("draft", "target"))
        scorers: dict[ScoreKind, ModelHandle[Scorer]] = {
            "router": ModelHandle(SimulatedScorer(servers["router"], world.rate, tokens_of))
        }
        # the usual template of a writer has the steps, not their authors
        models = Models(
            draft=ModelHandle(draft, annotated=False), target=ModelHandle(target, annotated=False), scorers=scorers
        )
        async with services() as tasks:
            for server in servers.values():
                await tasks.start(server.run)
            async with open_ring(models, lookahead=schedule.lookahead, verify=schedule.verify) as ring:
                await solve_all(ring, world.tasks(LearnedRouter(0.5)), 1, done)

    run_virtually(body)
    return Run(solutions, servers["draft"].load.decoded)


def _kept(run: Run) -> list[list[tuple[str, str]]]:
    return [[(step.kept.author, step.kept.text) for step in solution.steps] for solution in run.solutions]


def table(readings: list[Reading]) -> str:
    """Return the readings as a table in Markdown."""
    lines = [
        "| acceptance | schedule | latency, s | / sequential | hidden | used | wasted draft tokens | agreed "
        "| draft, score, target |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in readings:
        hidden = "" if one.hidden is None else f"{one.hidden:.1%}"
        spent = ", ".join(f"{share:.0%}" for share in one.spent.values())
        start = f"| {one.acceptance:g} | {one.schedule} | {one.latency:.3f} | {one.ratio:.3f} | {hidden} | {one.hits} "
        lines.append(f"{start}| {one.wasted_tokens} ({one.wasted_share:.1%}) | {one.agreed:.1%} | {spent} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cyclopts.run(main)
