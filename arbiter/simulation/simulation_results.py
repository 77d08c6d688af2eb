"""What a simulation tells."""

from typing import Literal

from arbiter.actors.controllers import Verify
from arbiter.protocols.records import FinishReason, LookaheadStats, Model, PrefixMatch, Record

STEPS = "steps"
"""The bottleneck where it is no server: one step comes after another."""


class LatencyPercentiles(Record, frozen=True):
    """Seconds from the moment at which a problem is let in to its end."""

    mean: float
    p50: float
    p95: float
    p99: float


class ServerResult(Record, frozen=True):
    """What a model's server did.

    ``utilisation`` is the share of the makespan in which it was busy, and ``full`` the greatest share of its places
    that were taken. ``waited`` are the mean seconds that a request waited for its turn, at the seat (``in_flight``) and
    in the server's queue. ``lost`` is the share of the problems' time that its load cost: what their requests took
    beyond their time on an idle server. Tokens of prompts were ``read`` or ``cached``, those of answers ``decoded``;
    ``wasted`` are those of both that were for cancelled requests.
    """

    placement: str
    requests: int
    utilisation: float
    full: float
    waited: float
    lost: float
    read: int
    cached: int
    decoded: int
    wasted: int


Depth = int | Literal["auto"]
"""How many steps are drafted ahead; ``auto`` leaves it to a controller."""


class Case(Record, frozen=True):
    """A workload's circumstances: so many problems at once, so many steps drafted ahead, rejected drafts shown to the
    target or not; and drafts accepted at a rate, None for that of the workload.
    """

    concurrency: int
    lookahead: Depth = 0
    verify: Verify = "off"
    acceptance: float | None = None


class SimulationResult(Record, frozen=True):
    """What a workload takes in a case.

    Times are virtual seconds. ``acceptance`` is the share of steps that were kept from the draft, ``agreement`` counts
    the tokens of the drafts that the target was shown. Throughput counts kept tokens. ``own`` is the share of the
    problems' time that would be left on idle servers; the rest is lost to load, server by server (where draft and
    target are asked at the same time, what both of them lose is counted). The ``bottleneck`` is the server that costs
    most, or ``steps`` where half of the time or more is their own. No schedule of the same requests has a makespan
    below ``bound``, which is known where they come one after another.
    """

    case: Case
    acceptance: float
    problems: int
    steps: int
    makespan: float
    latency: LatencyPercentiles
    problems_per_second: float
    tokens_per_second: float
    own: float
    bottleneck: str
    bound: float | None
    finish: dict[FinishReason, int]
    predrafts: LookaheadStats
    agreement: PrefixMatch
    servers: dict[Model, ServerResult]
