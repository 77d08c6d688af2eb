"""The table ``[serve]`` of a configuration: what ``arbiter serve`` offers to its clients."""

from typing import Annotated

import msgspec

from arbiter.config.base import ConfigTable


class ServeTable(ConfigTable, frozen=True):
    """What ``arbiter serve`` offers to its clients. Other commands do not read it."""

    choices: Annotated[int, msgspec.Meta(ge=1, le=128)] = 8
    """The largest ``n`` of a request: the number of answers to one question, which differ by their seeds."""
