"""The table ``[serve]`` of a configuration: what ``arbiter serve`` offers to its clients."""

from typing import Annotated

import msgspec

from arbiter.config.base import ConfigTable
from arbiter.config.run_tables import Share


class ServeTable(ConfigTable, frozen=True):
    """What ``arbiter serve`` offers to its clients. Other commands do not read it."""

    choices: Annotated[int, msgspec.Meta(ge=1, le=128)] = 8
    """The largest ``n`` of a request: the number of answers to one question, which differ by their seeds."""
    shadow: Share = 0.0
    """The share of the requests whose questions the target alone answers as well, to measure what it would cost.

    They run in the background where there is free capacity, and cost tokens of the target. All models need a ``price``.
    """
