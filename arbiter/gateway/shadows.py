"""Measure what the target alone costs: send a share of the requests to it as well, in the background."""

import secrets
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from arbiter.actors.policies import TargetOnly
from arbiter.actors.seeds import unit_draw
from arbiter.gateway.admission import Admission
from arbiter.library.arbiter import Arbiter
from arbiter.library.streams import Steps
from arbiter.log.live import EventFolder, LiveProblem
from arbiter.protocols import events
from arbiter.protocols.errors import ClosedError, ConfigError
from arbiter.protocols.events import Event
from arbiter.protocols.messages import Task
from arbiter.protocols.records import Solution, StepRecord
from arbiter.runs.costs import Prices, priced, solution_cost, step_alone, target_alone

TAG = "shadow_of"
"""The tag of a shadow in the log: the id of the problem whose question it has."""


class ShadowSums(msgspec.Struct):
    """The shadows by outcome, and the costs of the questions whose shadows were measured.

    ``answers`` is what the answers to the clients cost, ``estimated`` the estimate for the target alone, and
    ``target_alone`` the measured cost: the question read once, and the tokens that the target wrote. ``spent`` is what
    all shadows really cost, which read their steps again. A shadow is ``skipped`` if there is no free capacity, and
    ``displaced`` if clients need its capacity.
    """

    measured: int = 0
    failed: int = 0
    displaced: int = 0
    skipped: int = 0
    answers: float = 0.0
    estimated: float = 0.0
    target_alone: float = 0.0
    spent: float = 0.0

    @property
    def ratio(self) -> float | None:
        """The cost of the answers, as a share of the measured cost of the target alone; None without a shadow."""
        return self.answers / self.target_alone if self.target_alone else None


class _Shadow(msgspec.Struct):
    steps: Steps
    answer: float
    estimated: float
    target_alone: float = 0.0


class Shadows(EventFolder):
    """The shadows of an endpoint: questions that the target alone answers after their clients have their answers.

    A ``share`` of the answered questions, from 0 to 1, gets a shadow. Which ones depends on their ids alone. A shadow
    starts only if the ring and the target have free capacity, and is cancelled as soon as clients need it, or the
    Arbiter closes. Hooks get its events only through ``others``.
    """

    def __init__(self, arbiter: Arbiter, admission: Admission, prices: Prices, share: float) -> None:
        super().__init__()
        self.sums = ShadowSums()
        self._arbiter = arbiter
        self._admission = admission
        self._prices = prices
        self._share = share
        self._prefix = f"shadow-{secrets.token_hex(4)}-"
        self._running: dict[str, _Shadow] = {}

    @property
    def running(self) -> int:
        """The number of shadows that are being solved."""
        return len(self._running)

    def others(self, hook: Callable[[Event], None]) -> Callable[[Event], None]:
        """Return ``hook`` for the events of all problems that are no shadows."""

        def watch(event: Event) -> None:
            if not (event.problem or "").startswith(self._prefix):
                hook(event)

        return watch

    def __call__(self, event: Event) -> None:
        if event.problem in self._running:
            super().__call__(event)
        elif self._running and not self._target_has_room():
            self.cancel()

    def offer(self, task: Task, solution: Solution) -> None:
        """Start the shadow of an answered question, if it is drawn and there is capacity.

        There is none if the question failed, or if the target cannot answer it."""
        if solution.error or not self._is_drawn(task) or isinstance(task.policy, TargetOnly):
            return
        cost, estimated = solution_cost(solution, self._prices), target_alone(solution.steps, self._prices)
        if cost is None or estimated is None:
            return
        if not self._has_room():
            self.sums.skipped += 1
            return
        name = f"{self._prefix}{task.id}-{task.sample}"
        shadow = replace(
            task,
            id=name,
            sample=0,
            policy=TargetOnly(),
            audit=0.0,
            seed_key=task.seed_name,
            tags={**task.tags, TAG: task.id},
            top_logprobs=None,
        )
        try:
            self._arbiter.check(shadow)
            steps = self._arbiter.steps(shadow)
            steps.start()
        except (ClosedError, ConfigError):  # the Arbiter is closed, or the target cannot answer
            return
        self._running[name] = _Shadow(steps, cost, estimated)

    def make_room(self) -> None:
        """Cancel shadows that take capacity of the ring which the clients' problems need."""
        most = self._arbiter.config.limits.problems
        while self._running and self._admission.open + len(self._running) > most:
            self._displace(next(reversed(self._running)))

    def cancel(self) -> None:
        """Cancel all shadows."""
        for name in list(self._running):
            self._displace(name)

    def call_ended(self, live: LiveProblem, call: events.CallStarted, outcome: events.Outcome) -> None:
        if not isinstance(outcome, events.CallFailed | events.CallCancelled):
            self.sums.spent += priced(outcome.cost, self._prices.get("target")) or 0.0

    def kept(self, live: LiveProblem, step: StepRecord, seconds: float) -> None:
        shadow = self._running.get(live.id)
        if shadow is not None:
            shadow.target_alone += step_alone(step, live.kept == 1, self._prices["target"])

    def ended(self, live: LiveProblem, end: events.ProblemEnded | None) -> None:
        shadow, sums = self._running.pop(live.id, None), self.sums
        if shadow is None or end is None:  # it was displaced
            return
        if end.finish_reason == "failed":
            sums.failed += 1
            return
        sums.measured += 1
        sums.answers += shadow.answer
        sums.estimated += shadow.estimated
        sums.target_alone += shadow.target_alone

    def _displace(self, name: str) -> None:
        shadow = self._running.pop(name)
        shadow.steps.release()
        self.left(name)
        self.sums.displaced += 1

    def _is_drawn(self, task: Task) -> bool:
        """Whether the problem is in the share."""
        return unit_draw(task.sample, task.id, 0, "shadow") < self._share

    def _has_room(self) -> bool:
        """Whether a shadow takes nothing that a client waits for. The answered problem still counts as open."""
        arbiter, most = self._arbiter, self._arbiter.config.limits.problems
        is_free = not arbiter.waiting and self._admission.open + len(self._running) <= most
        return is_free and self._target_has_room()

    def _target_has_room(self) -> bool:
        slots = self._arbiter.occupancy.items()
        return all(one.taken < one.limit and not one.waiting for name, one in slots if name.startswith("target"))
