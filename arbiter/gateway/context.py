"""The state that all requests of an endpoint share."""

from collections.abc import Callable
from dataclasses import dataclass

from arbiter.gateway.admission import Admission
from arbiter.gateway.cost_totals import Costs
from arbiter.gateway.detokenizer import Detokenizer
from arbiter.gateway.model_names import ModelNames
from arbiter.gateway.stream_metrics import StreamMetrics
from arbiter.library.arbiter import Arbiter


@dataclass(frozen=True)
class GatewayContext:
    """The state that all requests of an endpoint share.

    ``left`` is called with the id and the sample of each problem whose client disconnected before it was solved.
    A client that reads nothing of its stream for ``patience`` seconds is disconnected. ``stream_metrics``
    observes the times of streamed answers.
    """

    arbiter: Arbiter
    names: ModelNames
    admission: Admission
    detokenizer: Detokenizer
    left: Callable[[str, int], None]
    patience: float
    costs: Costs
    stream_metrics: StreamMetrics
