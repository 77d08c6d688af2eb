"""The results of simulations."""

from typing import Literal

from arbiter.actors.controllers import Verify
from arbiter.protocols.records import FinishReason, LookaheadStats, Model, PrefixMatch, Record
from arbiter.runs.gathering_waits import GatheringWaits

STEPS = "steps"
"""The bottleneck if it is not a server but the sequence of steps."""


class LatencyPercentiles(Record, frozen=True):
    """Seconds from the start of a problem in the ring to its end."""

    mean: float
    p50: float
    p95: float
    p99: float


class ServerResult(Record, frozen=True):
    """Figures of a model's server.

    - ``utilisation``: the share of the makespan in which it was busy. ``full``: the highest share of its slots in use.
    - ``waited``: the mean seconds that a request waited: for other escalations (``gather``), for a slot in the ring
      (``in_flight``), and in the server's queue.
    - ``lost``: the share of the problems' time that its load cost: the time of their requests beyond that on an idle
      server.
    - ``read``, ``cached``: prompt tokens. ``decoded``: answer tokens. ``wasted``: tokens of both kinds for cancelled
      requests.
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
"""How many steps are drafted ahead. With ``auto`` a controller decides."""


class Case(Record, frozen=True):
    """The settings of one simulation.

    ``concurrency`` is the number of concurrent problems, ``lookahead`` the number of steps drafted ahead. ``verify``
    says whether the target reads rejected drafts, and ``block`` how many steps are drafted and scored together.
    ``acceptance`` None keeps the acceptance rate of the workload.
    """

    concurrency: int
    lookahead: Depth = 0
    verify: Verify = "off"
    acceptance: float | None = None
    block: int = 1


class SimulationResult(Record, frozen=True):
    """The figures of a workload in one case.

    - Times are in virtual seconds. Throughput counts kept tokens.
    - ``acceptance``: the share of steps kept from the draft.
    - ``prefix_match``: the tokens of the drafts that the target read, and how many of them it kept.
    - ``gathering``: how long escalations were held so that several reached the target together.
    - ``own``: the share of the problems' time that would remain on idle servers. The rest is lost to load, as listed
      per server. If draft and target work concurrently, the losses of both are counted.
    - ``bottleneck``: the server that costs most time, or ``steps`` if ``own`` is at least half.
    - ``bound``: no schedule of the same requests has a shorter makespan. None if requests of a problem overlap.
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
    finish_reasons: dict[FinishReason, int]
    lookahead: LookaheadStats
    prefix_match: PrefixMatch
    gathering: GatheringWaits
    servers: dict[Model, ServerResult]
