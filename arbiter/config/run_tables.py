"""The tables of a configuration that say how a run goes: thresholds, sampling, limits, data and log."""

from typing import Annotated, Literal

import msgspec

from arbiter.config.base import ConfigTable, Count
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.events import Detail

RunType = Literal["rsd", "oracle", "router", "generate", "draft", "target", "random", "confidence", "judge"]
BUDGETED: tuple[RunType, ...] = ("router", "rsd", "confidence", "judge")
"""The run types whose threshold a budget can move."""

Level = Literal["off", "debug", "info", "warning"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The names of the fields that hold a problem's parts, where they are not the usual ones."""

    question: str | None = None
    answer: str | None = None
    id: str | None = None
    source: str | None = None


USUAL = Fields()
"""The names of the fields in the usual releases of data sets."""


class Thresholds(ConfigTable, frozen=True):
    """The one knob of each run type that has one, each on a scale of its own; ``--threshold`` sets the run's.

    ``rsd``: keep the draft iff h ≥ τ. ``router``: keep the draft iff ŷ ≤ τ. ``oracle``: keep the target iff
    Δ > τ. ``random``: the probability of escalating a step. ``confidence``: keep the draft iff its confidence ≥ τ.
    ``judge``: keep the draft iff the judge's rating ≥ τ.
    """

    rsd: Share = 0.7
    router: Share = 0.5
    oracle: Annotated[float, msgspec.Meta(ge=-1, le=1)] = 0.0
    random: Share = 0.5
    confidence: Share = 0.8
    judge: Share = 0.7


class SamplingTable(ConfigTable, frozen=True):
    """``temperature`` 0 is greedy. ``target_samples`` counts where target and draft are both scored.

    ``samples`` is how often each problem is decoded, each time with noise of its own.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    target_samples: Count = 1
    samples: Count = 1

    def check(self, source: str) -> None:
        """Raises ``ConfigError`` naming ``source`` if all samples of a problem would be the same."""
        if self.samples > 1 and self.temperature == 0:
            raise ConfigError(
                f"{source}: sampling.samples is {self.samples}, and at temperature 0 all samples of a problem are the "
                "same: set sampling.temperature (--temperature) above 0, or leave samples out"
            )


class LimitsTable(ConfigTable, frozen=True):
    """Where a problem ends at the latest (``protocols.records.Limits``), and how many are in the ring at once."""

    max_steps: Count = 100
    max_tokens: Count = 4096
    step_tokens: Count = 1024
    repeats: Annotated[int, msgspec.Meta(ge=2)] = 3
    deadline: Annotated[float, msgspec.Meta(gt=0)] | None = None
    problems: Count = 64


class DataTable(ConfigTable, frozen=True):
    """Where the problems come from; the first ``limit`` of them.

    ``source`` is ``pocket``, ``pocket:SEED``, the path of a JSONL file, ``math500``, ``olympiadbench`` or
    ``OWNER/NAME`` of the Hugging Face hub, of which ``subset`` and ``split`` name a part. ``fields`` names the fields
    of a row where they are not the usual ones: ``fields = {question = "…", answer = "…"}``.
    """

    source: str = "pocket:1"
    limit: Count | None = None
    subset: str | None = None
    split: str | None = None
    fields: Fields = Fields()


class LogTable(ConfigTable, frozen=True):
    """The run's log (``docs/reference/log.md``).

    ``record`` says how much it holds: ``full``; ``redacted``: no text of questions, steps and answers; ``decisions``:
    no text, and only what was decided and answered. ``sync`` is the time between two calls of ``fsync`` in seconds:
    what a power cut can take. ``level`` is from which level on events are shown on standard error while they happen.
    """

    record: Detail = "full"
    sync: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 1.0
    level: Level = "off"

    def check(self, source: str, run_type: RunType) -> None:
        """Raises ``ConfigError`` naming ``source`` if the run's rows would have no text."""
        if run_type == "generate" and self.record != "full":
            raise ConfigError(
                f"{source}: log.record is {self.record!r}, and the rows that a run of the type 'generate' writes are "
                "text: set log.record to 'full'"
            )
