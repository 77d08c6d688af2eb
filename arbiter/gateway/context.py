"""The state that all requests of an endpoint share."""

from collections.abc import Callable
from dataclasses import dataclass

from arbiter.config.serve_tables import StreamUnit
from arbiter.gateway.admission import Admission
from arbiter.gateway.cost_totals import Costs
from arbiter.gateway.detokenizer import Detokenizer
from arbiter.gateway.model_names import ModelNames
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.messages import Task


@dataclass(frozen=True)
class GatewayContext:
    """The state that all requests of an endpoint share.

    ``left`` is called with the id and the sample of each problem whose client disconnected before it was solved.
    A client that reads nothing of its stream for ``patience`` seconds is disconnected. ``first_chunk`` is called with
    the task of each streamed answer, how it is streamed, and the seconds until its first text.
    """

    arbiter: Arbiter
    names: ModelNames
    admission: Admission
    detokenizer: Detokenizer
    left: Callable[[str, int], None]
    patience: float
    costs: Costs
    first_chunk: Callable[[Task, StreamUnit, float], None]
