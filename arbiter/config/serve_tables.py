"""The table ``[serve]`` of a configuration: what ``arbiter serve`` offers to its clients."""

from typing import Annotated, Literal

import msgspec

from arbiter.config.base import ConfigTable
from arbiter.config.run_tables import Share

Cap = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Bound = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Name = Annotated[str, msgspec.Meta(min_length=1)]
AtCap = Literal["refuse", "draft"]
Reasoning = Literal["separate", "inline"]
StreamUnit = Literal["steps", "tokens"]


class CapsTable(ConfigTable, frozen=True):
    """How much each API key may spend, at the prices of the models. Without keys, all clients spend together.

    A cap needs the ``price`` of every model. What was spent is in memory, so a new start of the endpoint begins at 0.
    """

    per_minute: Cap | None = None
    """The most that a key may spend within a minute, in the currency of the prices. Not set: no cap."""
    per_day: Cap | None = None
    """The most that a key may spend within 24 hours. Not set: no cap."""
    at_cap: AtCap = "refuse"
    """What happens to the requests of a key that has reached a cap, until its minute or day has passed.

    ``refuse``: they get status 429. ``draft``: the draft alone answers them, which still costs the tokens of the draft.
    """


class SloTable(ConfigTable, frozen=True):
    """What a streamed answer must keep to count as good. Each bound is in seconds; without any, nothing is counted.

    The rate of good answers is the goodput: ``rate(arbiter_slo_answers_total{outcome="met"}[5m])``.
    """

    first_token: Bound | None = None
    """The most seconds from the request to the first text (TTFT)."""
    first_output_token: Bound | None = None
    """The most seconds from the request to the first text or call after the thought of a reasoning model."""
    inter_token: Bound | None = None
    """The most seconds between two tokens, on average over an answer (ITL). An answer of one token does not keep it."""
    latency: Bound | None = None
    """The most seconds from the request to the last text."""

    @property
    def is_stated(self) -> bool:
        """Whether there is a bound."""
        return any(bound is not None for bound in msgspec.structs.astuple(self))


class ServeTable(ConfigTable, frozen=True):
    """What ``arbiter serve`` offers to its clients. Other commands do not read it."""

    choices: Annotated[int, msgspec.Meta(ge=1, le=128)] = 8
    """The largest ``n`` of a request: the number of answers to one question, which differ by their seeds."""
    shadow: Share = 0.0
    """The share of the requests whose questions the target alone answers as well, to measure what it would cost.

    They run in the background where there is free capacity, and cost tokens of the target. All models need a ``price``.
    """
    reasoning: Reasoning | None = None
    """Where the thought at the beginning of an answer goes. A request can choose with ``arbiter.reasoning``.

    ``separate``: into fields and items of its own, ``reasoning_content`` and items of the type ``reasoning``.
    ``inline``: it stays in the text, with its marks. Not set: ``separate`` if a model that writes the answer is of a
    family with thoughts, that is, if its prompt template has them.
    """
    stream: StreamUnit = "steps"
    """How streamed answers arrive. ``steps``: a chunk for each step, once it is kept. ``tokens``: steps that nothing
    can reject arrive while they are written.

    These are the steps of a target that replaces a rejected draft, and those of the run types ``target`` and ``draft``.
    Accepted drafts arrive whole. A request may choose otherwise, with ``arbiter.stream``.
    """
    aliases: dict[Name, str] = msgspec.field(default_factory=dict[Name, str])
    """Further names of models, with the operating points that they name: ``{ gpt-4o = "arbiter:router@0.4" }``.

    The option ``--alias`` adds to them, and replaces those of the same name.
    """
    caps: CapsTable = CapsTable()
    """How much each API key may spend."""
    slo: SloTable = SloTable()
    """What a streamed answer must keep to count as good in ``/metrics``."""
