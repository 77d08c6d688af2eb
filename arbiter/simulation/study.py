"""Simulate a workload: the real ring on simulated servers, in virtual time. Find its times and its bottleneck."""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import get_args

import anyio

from arbiter.actors.journal import NoJournal
from arbiter.actors.policies import called_models
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.events import CallStarted, Entry, Predrafted
from arbiter.protocols.ids import CallId
from arbiter.protocols.ports import Gather, GenerationRequest, ModelHandle, Scorer, ScoreRequest
from arbiter.protocols.records import (
    Author,
    FinishReason,
    LookaheadStats,
    Model,
    PrefixMatch,
    Record,
    ScoreKind,
    Solution,
    table_name,
)
from arbiter.replay.virtual_time import run_virtually
from arbiter.runs.gathering_waits import gathering_waits
from arbiter.runs.intervals import quantile
from arbiter.simulation.engine import EngineWork, Speed
from arbiter.simulation.lower_bounds import Bounds
from arbiter.simulation.placement import Placement
from arbiter.simulation.server import ServedRequest, SimulatedGenerator, SimulatedScorer, SimulatedServer
from arbiter.simulation.simulation_results import STEPS, Case, LatencyPercentiles, ServerResult, SimulationResult
from arbiter.simulation.workload import Workload

_HALF = 0.5
_DIGITS = 6  # of seconds and shares


class Hardware(Record, frozen=True):
    """One server per model: its ``placements``, and the number of slots that the ring has for it (``in_flight``).

    A server decodes at most ``running`` sequences together. ``mixed`` servers decode while they read; at others the
    ring grants slots in groups. ``annotated`` says whether the draft model's prompt names the author of each step.
    ``gather`` says how escalations gather at the target; None if none is held.
    """

    placements: dict[Model, Placement]
    in_flight: dict[Model, int]
    running: int = 64
    mixed: bool = False
    annotated: bool = False
    gather: Gather | None = None

    def check(self) -> None:
        """Raise ``ConfigError`` for an unknown model or GPU, or if weights do not fit."""
        for placement in self.placements.values():
            placement.speed(self.running, self.mixed)


class Study(NoJournal):
    """One simulation. It is also the journal of the ring, to measure how long requests wait for a slot."""

    kept = True

    def __init__(self, workload: Workload, hardware: Hardware, case: Case) -> None:
        self._workload = workload
        self._case = case
        self._hardware = hardware
        self._tasks = list(workload.tasks())
        if any(task.policy.targets for task in self._tasks):
            raise ConfigError(
                "a simulation has one target, but the policy has several by name: simulate [models.target]"
            )
        called = {model for task in self._tasks for model in called_models(task.policy, task.audit)}
        self._places: dict[Model, Placement] = {
            model: place for model, place in hardware.placements.items() if model in called
        }
        speeds: dict[Model, Speed] = {
            model: place.speed(hardware.running, hardware.mixed) for model, place in self._places.items()
        }
        self._servers: dict[Model, SimulatedServer] = {model: SimulatedServer(speed) for model, speed in speeds.items()}
        self._bounds = Bounds(speeds, hardware.running)
        self._sent: dict[str, float] = {}
        self._waited: dict[str, float] = defaultdict(float)  # for a slot
        self._lost: dict[Model, float] = defaultdict(float)
        self._lost_ahead: dict[str, float] = {}
        self._solutions: list[Solution] = []
        self._makespan = 0.0

    def run(self, done: Callable[[], None]) -> SimulationResult:
        """Solve all problems and return the figures. ``done`` is called when a problem ends."""

        case = self._case
        ahead = None if case.lookahead == "auto" else case.lookahead

        async def ended(solution: Solution) -> None:
            self._solutions.append(solution)
            done()

        async def body() -> None:
            started = anyio.current_time()
            async with services() as tasks:
                for server in self._servers.values():
                    await tasks.start(server.run)
                async with open_ring(
                    self._models(), journal=self, lookahead=ahead, verify=case.verify, block=case.block
                ) as ring:
                    await solve_all(ring, self._tasks, case.concurrency, ended)
            self._makespan = anyio.current_time() - started

        run_virtually(body)
        return self._figures()

    async def write(self, entry: Entry) -> None:
        now = anyio.current_time()
        if not isinstance(entry.payload, CallStarted):
            self._sent[entry.id] = now
        elif not CallId.parse(entry.id).is_ahead:  # no problem waits for a draft ahead
            model, waited = entry.payload.model, now - self._sent.get(entry.cause or "", now)
            self._waited[table_name(model)] += waited
            if model != "audit":
                self._lost[model] += waited

    def note(self, entry: Entry) -> None:
        if isinstance(entry.payload, Predrafted):  # a draft ahead that is used delays its problem
            self._lost["draft"] += self._lost_ahead.pop(entry.payload.call, 0.0)

    def _models(self) -> Models:
        load = self._workload
        handles = self._hardware.in_flight
        roles: tuple[Author, ...] = ("draft", "target")
        writers = {
            role: ModelHandle(
                SimulatedGenerator(self._servers[role], load.write, load.measure, partial(self._note, role)),
                handles[role],
                self._hardware.annotated,
                gather=self._hardware.gather if role == "target" else None,
                pauses=not self._hardware.mixed,
            )
            for role in roles
            if role in self._servers
        }
        scales: tuple[ScoreKind, ...] = get_args(ScoreKind)
        scorers: dict[ScoreKind, ModelHandle[Scorer]] = {
            score_kind: ModelHandle(
                SimulatedScorer(self._servers[score_kind], load.rate, load.measure, partial(self._note, score_kind)),
                handles[score_kind],
            )
            for score_kind in scales
            if score_kind in self._servers
        }
        return Models(draft=writers.get("draft"), target=writers.get("target"), scorers=scorers)

    def _note(
        self, server: Model, request: GenerationRequest | ScoreRequest, work: EngineWork, served: ServedRequest
    ) -> None:
        call = CallId.parse(request.call)
        step = call.message.step
        alone = self._bounds.add(server, (step.problem, step.sample), work, served.cached)
        if call.is_ahead:
            self._lost_ahead[request.call] = served.seconds - alone
        elif call.model != "audit":
            self._lost[server] += served.seconds - alone

    def _figures(self) -> SimulationResult:
        ends = [solution.seconds for solution in self._solutions]
        steps = [step for solution in self._solutions for step in solution.steps]
        whole = sum(ends) or 1.0
        lost: dict[Model, float] = {model: self._lost[model] for model in self._servers}
        own = max(1 - sum(lost.values()) / whole, 0.0)
        ends_by: Counter[FinishReason] = Counter(solution.finish_reason for solution in self._solutions)
        shown = [one.prefix_match for step in steps for one in step.targets if one.prefix_match is not None]
        kept = sum(step.kept.usage.completion_tokens for step in steps)
        return SimulationResult(
            case=self._case,
            acceptance=_rounded(fmean(step.kept.author == "draft" for step in steps) if steps else 0.0),
            problems=len(ends),
            steps=len(steps),
            makespan=_rounded(self._makespan),
            latency=LatencyPercentiles(
                _rounded(fmean(ends)), *(_rounded(quantile(ends, at) or 0.0) for at in (0.5, 0.95, 0.99))
            ),
            problems_per_second=_rounded(len(ends) / self._makespan),
            tokens_per_second=_rounded(kept / self._makespan),
            own=_rounded(own),
            bottleneck=STEPS if own >= _HALF else max(lost, key=lambda name: lost[name]),
            bound=_rounded(self._bounds.makespan(self._case.concurrency)) if self._is_in_turn else None,
            finish_reasons={reason: ends_by[reason] for reason in sorted(ends_by)},
            lookahead=sum((solution.lookahead for solution in self._solutions), LookaheadStats()),
            prefix_match=PrefixMatch(sum(one.proposed for one in shown), sum(one.matched for one in shown)),
            gathering=gathering_waits(candidate for step in steps for candidate in step.targets),
            servers={model: self._server(model, whole) for model in self._servers},
        )

    @property
    def _is_in_turn(self) -> bool:
        """Whether the requests of a problem come one after another, without overlap."""
        one_by_one = all(len(task.policy.proposers) == 1 and not task.audit for task in self._tasks)
        return one_by_one and self._case.lookahead == 0 and self._case.block == 1

    def _server(self, model: Model, whole: float) -> ServerResult:
        load = self._servers[model].load
        return ServerResult(
            placement=str(self._places[model]),
            requests=load.requests,
            utilisation=_rounded(load.utilisation(self._makespan)),
            full=_rounded(load.most_running / self._hardware.running),
            waited=_rounded((load.waited + self._waited[model]) / max(load.requests, 1)),
            lost=_rounded(self._lost[model] / whole),
            read=load.read,
            cached=load.cached,
            decoded=load.decoded,
            wasted=load.wasted,
        )


def _rounded(number: float) -> float:
    return round(number, _DIGITS) + 0.0  # turns -0.0 into 0.0
