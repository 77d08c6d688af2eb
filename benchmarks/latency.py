"""The latency of one problem at a time, with drafting ahead and verified escalation on and off, in virtual time.

    python benchmarks/latency.py [--problems 64] [--seed 0] [--lookahead 1] [--json]
    python benchmarks/latency.py --draft 8B --target 70B@4xH100 --acceptance 0.7,0.9

One problem is in the ring at a time, over simulated servers (docs/performance.md), each schedule on idle servers of its
own. Every schedule keeps the same steps; that is checked.

What can be *hidden*: a draft that is written while the step before it is scored, and rewritten by the target, if that
step keeps its draft's text: accepted, or written by the target all the same. One step ahead, that is the shorter of the
draft and what is done meanwhile. How long the problems would take if all of that were hidden is computed from the
seconds that each request took (``_all_hidden``); ``hidden`` is the share of this saving that the schedule had.

*Wasted* are the tokens that the draft's server wrote beside the drafts that were asked for, those of cancelled requests
among them.
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
    """Which of the two is on; ``lookahead`` None is the controller's."""

    name: str
    lookahead: int | None
    verify: Verify


class Reading(msgspec.Struct, frozen=True):
    """Mean latency in virtual seconds, and its ratio to that of the sequential schedule.

    ``hideable`` seconds a problem are what drafting ahead can hide, and ``hidden`` is the share of it that was.
    ``agreed`` is the share of the target's tokens that it had not to write, ``spent`` who took which share of the
    requests' seconds, those of drafts that were never asked for apart.
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
    """What a schedule did: its solutions, and the tokens that the draft's server wrote."""

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
    """Measure each schedule at each acceptance.

    Models are MODEL, MODEL@GPU or MODEL@4xGPU. Several acceptance rates have commas between them, and so have the
    quantiles ``agreeing`` of the share of a rejected draft that the target would have written itself (``AGREEING``).
    """
    places = {name: placed(text, gpu) for name, text in (("draft", draft), ("router", router), ("target", target))}
    matches = Quantiles(_numbers(agreeing)) if agreeing else AGREEING
    schedules = (
        Schedule("sequential", 0, "off"),
        Schedule("ahead", lookahead, "off"),
        Schedule("verified", 0, "on"),
        Schedule("both", lookahead, "on"),
        Schedule("auto", None, "auto"),
    )
    readings = [
        one
        for accepted in _numbers(acceptance)
        for one in _measured(SyntheticWorkload(problems, accepted, seed, agreeing=matches), places, schedules)
    ]
    sys.stdout.write(msgspec.json.encode(readings).decode() if as_json else _told(readings))
    sys.stdout.write("\n")


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _measured(world: SyntheticWorkload, places: dict[str, Placement], schedules: tuple[Schedule, ...]) -> list[Reading]:
    runs = {schedule.name: _solved(world, places, schedule) for schedule in schedules}
    sequential = runs["sequential"]
    for run in runs.values():
        if _kept(run) != _kept(sequential):
            raise RuntimeError("a schedule has changed a transcript")
    return [_reading(world.acceptance, one.name, runs, one.lookahead or 0) for one in schedules]


def _reading(acceptance: float, name: str, runs: dict[str, Run], lookahead: int) -> Reading:
    """What can be hidden is that of the schedule which verifies as much and drafts nothing ahead."""
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
    """Seconds that the problem takes if each draft is begun as soon as the text before it is there.

    A draft is written ahead of ``depth`` steps that are not decided yet, at most, and of use where all of them keep
    the texts of their drafts.
    """
    asked = [0.0]  # when each step was decided to be the next one
    written = list[float]()  # when its draft was there
    for place, step in enumerate(solution.steps):
        if step.draft is None or step.draft.rating is None:
            raise RuntimeError(f"a step of {solution.problem} has no draft or no score")
        begun, before = asked[-1], solution.steps[place - 1] if place else None
        if before and before.draft and before.kept.text == before.draft.text and depth:
            back = max(place - depth, 0)  # its draft is in use: from then on the next ones may be written
            begun = min(begun, max(written[-1], written[back], asked[back]))
        written.append(begun + step.draft.seconds)
        rest = step.draft.rating.seconds + sum(one.seconds for one in step.targets)
        asked.append(max(written[-1], asked[-1]) + rest)
    return asked[-1]


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
        # a draft model is told the steps alone, not who wrote them: the usual template
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


def _told(readings: list[Reading]) -> str:
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
