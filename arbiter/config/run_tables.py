"""The tables that control a run: thresholds, sampling, limits, data and log."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from arbiter.config.base import ConfigTable, Count
from arbiter.config.grading_tables import GradingJudgeTable, SandboxTable
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.events import Detail

RunType = Literal[
    "rsd",
    "oracle",
    "router",
    "generate",
    "draft",
    "target",
    "random",
    "confidence",
    "judge",
    "trigger",
    "paced",
    "glimpse",
    "pomdp",
]
BUDGETED: tuple[RunType, ...] = ("router", "rsd", "confidence", "judge", "glimpse")
"""The run types whose threshold a budget can move."""

NO_BUDGET: dict[RunType, str] = {
    "trigger": "escalates for reasons that no threshold holds back",
    "pomdp": "weighs what an escalation gains against its price, which is this threshold",
    "paced": "has an allowance for each problem (pacing.allowance) instead",
}
"""Why a budget cannot move the threshold of other run types that have one on the draft's score."""

STEPPED: tuple[RunType, ...] = ("router", "rsd", "confidence", "judge")
"""The run types whose threshold can have an offset at each step."""

NO_OFFSETS: dict[RunType, str] = {
    "glimpse": "decides before the draft is written, and no rows say how first tokens differ by step",
    "trigger": "has a rule of its own for the first steps (trigger.first)",
    "paced": "has a threshold that follows the position and the allowance already",
    "pomdp": "has a threshold that is a price, whose worth follows from the position already",
}
"""Why the threshold of other run types on the draft's score has no offsets."""


def check_offsets(source: str, run_type: RunType, offsets: Sequence[float], budget: float | None) -> None:
    """Raise ``ConfigError`` naming ``source`` if the run type has no offsets, or if a budget moves its threshold."""
    if offsets and run_type in NO_OFFSETS:
        raise ConfigError(
            f"{source}: step_offsets: the run type {run_type!r} {NO_OFFSETS[run_type]}: leave step_offsets out, or use "
            f"one of {', '.join(STEPPED)}"
        )
    if offsets and budget is not None:
        raise ConfigError(
            f"{source}: budget moves one threshold of all steps, and step_offsets gives each step its own: leave one "
            "of them out"
        )


WITHOUT_ESCALATION: tuple[RunType, ...] = ("draft", "target", "oracle", "generate")
"""The run types that decide nothing before the target writes."""

Level = Literal["off", "debug", "info", "warning"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The names of a row's fields that have the parts of a problem. Needed only if they are not the usual names.

    Example: ``fields = {question = "text", answer = "reply"}``.
    """

    question: str | None = None
    """The field with the question."""
    answer: str | None = None
    """The field with the reference answer."""
    choices: str | None = None
    """The field with the choices of a multiple-choice question."""
    id: str | None = None
    """The field with the problem's id."""
    source: str | None = None
    """The field by which ``arbiter collect --stratify`` samples."""


USUAL = Fields()
"""The names of the fields in the usual releases of data sets."""


class Thresholds(ConfigTable, frozen=True):
    """The threshold τ of each run type that has one.

    Each has its own scale, so thresholds of different run types cannot be compared. The option ``--threshold`` sets the
    one of the run's type.
    """

    rsd: Share = 0.7
    """Keep the draft if its process reward h ≥ τ."""
    router: Share = 0.5
    """Keep the draft if the router's estimate ŷ ≤ τ."""
    oracle: Annotated[float, msgspec.Meta(ge=-1, le=1)] = 0.0
    """Keep the target's step if the advantage Δ > τ."""
    random: Share = 0.5
    """The probability of escalating a step."""
    confidence: Share = 0.8
    """Keep the draft if the draft model's confidence in it ≥ τ."""
    judge: Share = 0.7
    """Keep the draft if the judge's rating ≥ τ."""
    trigger: Share = 0.99
    """Escalate a draft whose confidence > τ: it is overconfident. The other triggers are in ``[trigger]``."""
    paced: Share = 0.5
    """Escalate a draft whose risk > τ while the problem is on plan (``[pacing]``)."""
    pomdp: Share = 0.05
    """Escalate a draft if that raises the probability of a right solution by more than τ (``[pomdp]``)."""
    glimpse: Share = 0.5
    """Have the draft write the step if the confidence of its first token ≥ τ (``[glimpse]``)."""


class SamplingTable(ConfigTable, frozen=True):
    """How the models sample."""

    temperature: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """The sampling temperature of draft and target; 0 is greedy decoding."""
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """The probability mass from which tokens are sampled (nucleus sampling)."""
    target_samples: Count = 1
    """How many candidates the target writes for a step if draft and target are both scored.

    Used by ``oracle`` and ``generate``. Only the first of them competes with the draft. In training rows, the
    advantage Δ uses the mean score of all of them.
    """
    presence_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] = 0.0
    """What is taken from the logit of each token that the answer has already.

    A model in process counts the whole answer so far, a server the step that it writes. Not 0: no draft is verified.
    """
    frequency_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] = 0.0
    """As `presence_penalty`, but taken for each time that the answer has the token."""
    samples: Count = 1
    """How often each problem is solved, each time with different noise. More than 1 needs a temperature above 0."""

    def check(self, source: str) -> None:
        """Raise ``ConfigError`` naming ``source`` if all samples of a problem would be the same."""
        if self.samples > 1 and self.temperature == 0:
            raise ConfigError(
                f"{source}: sampling.samples is {self.samples}, and at temperature 0 all samples of a problem are the "
                "same: set sampling.temperature (--temperature) above 0, or leave samples out"
            )


class LimitsTable(ConfigTable, frozen=True):
    """When a problem ends at the latest, and how many problems run concurrently."""

    max_steps: Count = 100
    """The largest number of kept steps of a problem."""
    max_tokens: Count = 4096
    """The largest number of tokens in the kept steps of a problem.

    The contexts of draft, target and scorers must hold them and the question. If a model's context is known and
    shorter, runs, the endpoint and ``arbiter doctor`` say so at the start.
    """
    step_tokens: Count = 1024
    """The largest number of tokens in one step. A kept step that reaches it ends the problem."""
    repeats: Annotated[int, msgspec.Meta(ge=2)] = 3
    """How many identical kept steps in a row end the problem."""
    deadline: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """The time after which a problem ends, in seconds. Not set: no time limit."""
    problems: Count = 64
    """How many problems are in the ring concurrently. Each sample of a problem counts as one."""


class DataTable(ConfigTable, frozen=True):
    """Where the problems come from."""

    source: str = "pocket:1"
    """A drawn set such as ``pocket`` or ``pocket:SEED``, the path of a file or folder, ``-`` (standard input), a
    published data set with a [name](data-sets.md) such as ``gsm8k``, or a data set of the Hugging Face hub
    (``OWNER/NAME``).

    A source that is not on this machine is looked up at the hub if it looks like such a name, and has no suffix of a
    data file.

    [Choose problems](../how-to/data.md) describes them.
    """
    limit: Count | None = None
    """The number of problems to use, the first ones of the data. Not set: all."""
    subset: str | None = None
    """The subset (configuration) of a data set of the hub, or of a folder with the same layout."""
    split: str | None = None
    """The split of such a data set. Not set: ``test``, or the only split."""
    prompt: str | None = None
    """The text around each question, with ``{question}``, and with ``{letters}`` for the letters of its choices.

    Not set: that of a published data set with a [name](data-sets.md), else the question alone. ``{question}`` leaves
    out the prompt of a data set.
    """
    fields: Fields = Fields()
    """The names of the fields in a row, if they are not the usual ones."""
    grader: str | None = None
    """What grades the answers: ``math``, ``choice``, ``text``, ``code``, ``judge``, the name of an installed grader, or
    ``package.module:function``.

    Not set: the grader of the named data set. For other data: ``choice`` for problems with choices, ``math`` for the
    others.
    """
    judge: GradingJudgeTable = GradingJudgeTable()
    """The model of the grader ``judge``."""
    sandbox: SandboxTable = SandboxTable()
    """The sandbox of the grader ``code``."""
    allow_unsandboxed: bool = False
    """Whether the grader ``code`` may run programs without a sandbox if the sandbox cannot be used.

    The programs can then read, change and send whatever this user can. Set it only within a sandbox of your own.
    """


class LogTable(ConfigTable, frozen=True):
    """The event log of a run."""

    record: Detail = "full"
    """How much the log records.

    ``full``: everything. ``redacted``: all events, without the text of questions, steps and answers. ``decisions``: no
    text, and only the events that decide, answer or grade.
    """
    sync: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 1.0
    """The time between two calls of ``fsync``, in seconds. A power failure can lose the events since the last one.

    0: after every write.
    """
    level: Level = "off"
    """The lowest level of the events that are shown on standard error during the run."""

    def check(self, source: str, run_type: RunType) -> None:
        """Raise ``ConfigError`` naming ``source`` if the run's rows would have no text."""
        if run_type == "generate" and self.record != "full":
            raise ConfigError(
                f"{source}: log.record is {self.record!r}, and a run of the type 'generate' writes rows of text: set "
                "log.record to 'full'"
            )
