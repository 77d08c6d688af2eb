"""The configuration of an experiment: one TOML file, in which unknown keys are refused.

Every key that a file may set is a field of the tables below. A docstring explains each field; the configuration
reference (``docs/reference/configuration.md``) is generated from them.
"""

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import (
    ConfidenceThreshold,
    DraftOnly,
    GenerateRows,
    JudgeThreshold,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
    called_models,
    target_names,
)
from arbiter.config import config_files
from arbiter.config.base import ConfigTable, Count
from arbiter.config.boundary_table import BoundaryTable
from arbiter.config.config_files import built_in as built_in
from arbiter.config.config_paths import with_absolute_paths
from arbiter.config.key_errors import describe
from arbiter.config.model_tables import InProcessTable, ModelTables, RouterTable
from arbiter.config.policy_tables import BeliefTable, GlimpseTable, PacingTable, TriggerTable
from arbiter.config.ray_table import RayTable
from arbiter.config.run_tables import (
    BUDGETED,
    NO_BUDGET,
    DataTable,
    LimitsTable,
    LogTable,
    RunType,
    SamplingTable,
    Share,
    Thresholds,
    check_offsets,
)
from arbiter.config.serve_tables import ServeTable
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.policy import Policy
from arbiter.protocols.records import ConfidenceMetric, Limits, Sampling, Target

SEPARATOR = "\n\n"
"""The separator of the steps, unless the configuration sets another one."""

_THRESHOLDS = typing.get_type_hints(Thresholds, include_extras=True)
"""The type of each run type's threshold, with its range."""


class Config(ConfigTable, frozen=True):
    """A whole experiment: models, run type, limits, data and log. Immutable."""

    models: ModelTables
    """The models. The only table that a file must have."""
    run_type: RunType = "router"
    """The policy that decides which step is kept."""
    thresholds: Thresholds = Thresholds()
    """The threshold τ of each run type. Only that of ``run_type`` is used."""
    audit: Share = 0.0
    """The share of escalations for which the PRM scores both candidates, only for the report.

    The run's decisions do not change. The summary has the result in ``wasted_escalations``, and counts the requests
    separately.
    """
    seed: int = 0
    """The seed of all random choices: sampling above temperature 0, the run type ``random``, and the audited steps."""
    separator: Annotated[str, msgspec.Meta(min_length=1)] = SEPARATOR
    """The text that ends a step."""
    token_exact: bool = True
    """Whether a model continues from the tokens that it wrote itself, instead of the tokens of their text.

    [Token by token](../explanation/determinism.md#token-by-token) has the rule, and what servers need for it. ``false``
    is the rule of runs that were recorded before this key.
    """
    whole_blocks: bool | None = None
    """Whether a step holds whole fenced blocks of code: a separator inside one does not end the step.

    [Steps of code](code-grader.md#steps-of-code) has the details. Not set: yes for the grader ``code``."""
    boundary: BoundaryTable = BoundaryTable()
    """At which separators a step ends."""
    cpu_threads: Count | None = None
    """The number of CPU threads that one operation of a model in process uses. Not set: torch decides.

    With tiny models 1 is fastest, because each model has its own worker thread.
    """
    lookahead: Annotated[int, msgspec.Meta(ge=0, le=64)] | Literal["auto"] = 0
    """How many steps are drafted ahead while a step is scored or regenerated.

    ``auto`` adapts the number during the run. Transcripts do not change.
    """
    verify: Verify = "auto"
    """Whether the target reads a rejected draft and keeps the prefix that it would have written itself.

    ``auto`` does so while it saves time. Above temperature 0 it is off. A served target needs the key ``verifies``.
    Transcripts do not change.
    """
    salvage: bool = False
    """Whether a step that was drafted ahead is used as the draft even though the step before it was replaced.

    Changes transcripts. Needs ``lookahead``.
    """
    block: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """How many steps are drafted before they are scored, in one request where the scorer can.

    Of a block, the steps up to the first one that is escalated are used. Transcripts do not change. Excludes
    ``lookahead``. [Blocks](../explanation/blocks.md) says when it pays.
    """
    confidence: ConfidenceMetric | None = None
    """How the draft's confidence in a step is measured, for the run types that use it.

    ``mean`` is the geometric mean of the probabilities of the step's tokens. ``first`` is exp(−H), where H is the
    entropy of the distribution of its first token. Not set: ``mean`` for ``confidence``,
    ``trigger``, ``paced`` and ``pomdp``, and for ``generate`` with a draft in process. Otherwise none is measured.
    """
    budget: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """The share of decided steps that may be escalated.

    Only for ``router``, ``rsd``, ``confidence``, ``judge`` and ``glimpse``.

    The configured threshold is then only the initial one. It moves during the run to keep the share of escalations
    near the budget.
    """
    step_offsets: tuple[Annotated[float, msgspec.Meta(ge=-1, le=1)], ...] = ()
    """What is added to the threshold at each step, from the first one on; the last is for every further step.

    Only for ``router``, ``rsd``, ``confidence`` and ``judge``, and not with ``budget``. [Thresholds by
    position](../explanation/positions.md) has the rule. ``arbiter fit --policy positions`` learns them.
    """
    compare: bool = False
    """Whether ``arbiter bench`` also runs the draft alone and the target alone on the same problems, and compares them.

    Each of them has its own run folder. Other commands do not read this key.
    """
    adaptive: bool = True
    """Whether a server that is overloaded gets fewer concurrent requests than ``in_flight``."""
    sampling: SamplingTable = SamplingTable()
    """How the models sample."""
    trigger: TriggerTable = TriggerTable()
    """The triggers of the run type ``trigger``."""
    pacing: PacingTable = PacingTable()
    """The allowance of each problem, for the run type ``paced``."""
    pomdp: BeliefTable = BeliefTable()
    """How often steps are right, for the run type ``pomdp``."""
    glimpse: GlimpseTable = GlimpseTable()
    """The first token that decides, for the run type ``glimpse``."""
    limits: LimitsTable = LimitsTable()
    """When a problem ends at the latest, and how many problems run concurrently."""
    data: DataTable = DataTable()
    """The problems."""
    log: LogTable = LogTable()
    """The event log of the run."""
    serve: ServeTable = ServeTable()
    """What ``arbiter serve`` offers to its clients."""
    ray: RayTable = RayTable()
    """The workers of a run on Ray."""

    @property
    def depth(self) -> int | None:
        """How many steps are drafted ahead; None if a controller decides."""
        return None if self.lookahead == "auto" else self.lookahead

    @property
    def threshold(self) -> float | None:
        """The threshold of this run's type; None if it has none."""
        return getattr(self.thresholds, self.run_type, None)

    @property
    def confidence_metric(self) -> ConfidenceMetric | None:
        """How the draft's confidence is measured; None if the run does not request it.

        The run types that decide by it request it. ``generate`` does if the key is set or the draft is in process: a
        server that returns no probabilities would fail the request.
        """
        scores = {"paced": self.pacing.score, "pomdp": self.pomdp.score}
        if scores.get(self.run_type) == "confidence" or self.run_type in ("confidence", "trigger"):
            return self.confidence or "mean"
        if self.run_type == "generate":
            return self.confidence or ("mean" if isinstance(self.models.draft, InProcessTable) else None)
        return None

    def with_run_type(self, run_type: RunType, source: str, *, drop_budget: bool = False) -> "Config":
        """Return the same experiment with another run type.

        ``drop_budget`` leaves the budget out if the run type has no threshold that a budget could move; otherwise such
        a budget is refused. Raises ``ConfigError`` naming ``source``, also for a run type that does not exist.
        """
        if run_type not in get_args(RunType):  # a caller without types
            raise ConfigError(f"{source}: there is no run type {run_type!r}; one of {', '.join(get_args(RunType))}")
        budget = None if drop_budget and run_type not in BUDGETED else self.budget
        changed = msgspec.structs.replace(self, run_type=run_type, budget=budget)
        changed.check_run_type(source)
        return changed

    def with_threshold(self, threshold: float, source: str = "--threshold") -> "Config":
        """Return the same experiment with another threshold of its run type.

        Raises ``ConfigError`` if the run type has none, or naming ``source`` if the value is out of range.
        """
        allowed = _THRESHOLDS.get(self.run_type)
        if allowed is None:
            known = ", ".join(_THRESHOLDS)
            raise ConfigError(
                f"the run type {self.run_type!r} has no threshold: leave it out, or use one of the run types {known}"
            )
        try:
            checked = msgspec.convert(threshold, allowed)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{source}: thresholds.{self.run_type}: {error}") from error
        thresholds = msgspec.structs.replace(self.thresholds, **{self.run_type: checked})
        return msgspec.structs.replace(self, thresholds=thresholds)

    def check_run_type(self, source: str) -> None:
        """Raise ``ConfigError`` naming ``source`` if the run type does not fit the budget, the triggers or the log."""
        if self.budget is not None and self.run_type not in BUDGETED:
            why = NO_BUDGET.get(self.run_type, "has none")
            raise ConfigError(
                f"{source}: budget moves a threshold on the draft's score, and the run type {self.run_type!r} "
                f"{why}: leave budget out, or use one of {', '.join(BUDGETED)}"
            )
        check_offsets(source, self.run_type, self.step_offsets, self.budget)
        if self.run_type == "trigger":
            self.trigger.check(source, self.log.record)
        if self.run_type == "pomdp":
            self.pomdp.check(source)
        if self.run_type == "glimpse":
            self.glimpse.check(source, self.lookahead, self.block)
        self.log.check(source, self.run_type)

    def policy(self) -> Policy:
        """Return the policy of this run's type."""
        match self.run_type:
            case "rsd":
                return RewardThreshold(self.thresholds.rsd, self.budget, self.step_offsets)
            case "oracle":
                return Oracle(self.thresholds.oracle)
            case "router":
                targets = tuple(Target(name, table.cost or 1.0) for name, table in self.models.targets.items())
                return LearnedRouter(self.thresholds.router, targets, self.budget, self.step_offsets)
            case "judge":
                return JudgeThreshold(self.thresholds.judge, self.budget, self.step_offsets)
            case "random":
                return RandomEscalation(self.thresholds.random)
            case "generate":
                return GenerateRows(self.confidence_metric, tuple(self.models.targets))
            case "confidence":
                metric = self.confidence_metric or "mean"
                return ConfidenceThreshold(self.thresholds.confidence, metric, self.budget, self.step_offsets)
            case "trigger":
                return self.trigger.policy(self.thresholds.trigger, self.confidence_metric or "mean")
            case "paced":
                return self.pacing.policy(self.thresholds.paced, self.confidence_metric or "mean")
            case "pomdp":
                return self.pomdp.policy(self.thresholds.pomdp, self.confidence_metric or "mean")
            case "glimpse":
                return self.glimpse.policy(self.thresholds.glimpse, self.budget)
            case "draft":
                return DraftOnly()
            case "target":
                return TargetOnly()

    def called_tables(self) -> dict[str, RouterTable | None]:
        """The tables of the models that the run may call, by their keys below ``models.``; None if one is missing."""
        policy, configured = self.policy(), self.models.configured()
        targets = [f"targets.{name}" for name in target_names(policy.targets) or list(self.models.targets)[:1]]
        called = called_models(policy, self.audit)
        keys = [key for name in called for key in (targets if name == "target" and targets else (name,))]
        return {key: configured.get(key) for key in keys}

    def problem_limits(self) -> Limits:
        """The limits of one problem."""
        table = self.limits
        return Limits(table.max_steps, table.max_tokens, table.step_tokens, table.repeats, table.deadline)

    def problem_sampling(self) -> Sampling:
        """The sampling of one problem."""
        table = self.sampling
        return Sampling(
            table.temperature, table.top_p, table.target_samples, table.presence_penalty, table.frequency_penalty
        )


def load_config(
    name: str | Mapping[str, Any], changes: Mapping[str, Any] | None = None, source: str = "command line"
) -> Config:
    """Read the configuration at the path ``name``, or the built-in one of that name. A mapping has its tables already.

    ``changes`` are keys, nested as in the file, that replace those of the file before it is parsed; ``source`` says
    where they come from. Relative paths in the file are relative to it, those in ``changes`` and in a mapping to the
    working directory (``arbiter.config.config_paths``).

    Raises ``ConfigError``: naming the file if the file alone is wrong, otherwise ``source``.
    """
    changes = with_absolute_paths(dict(changes or {}), Path.cwd(), None)
    if not isinstance(name, str):
        tree = with_absolute_paths(dict(name), Path.cwd(), None)
        return parse(_changed(tree, changes), source)
    path = config_files.find(name)
    is_built_in = path == built_in().get(name)
    base, warned = (Path.cwd(), None) if is_built_in else (path.parent, str(path))
    tree = with_absolute_paths(config_files.stored_or_written(path), base, warned)
    if not changes:
        return parse(tree, str(path))
    try:
        return parse(_changed(tree, changes), source)
    except ConfigError:
        parse(tree, str(path))  # an error of the file is reported under its name
        raise


def _changed(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return config_files.merged(config_files.without_limit_of_other_data(tree, changes), changes)


def parse(tree: dict[str, Any], source: str) -> Config:
    """Check a tree of tables and return its configuration.

    Raises ``ConfigError`` naming ``source``, the key and how to fix it.
    """
    tree = config_files.with_model_defaults(tree)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {describe(error, tree, Config)}") from error
    if config.salvage and config.lookahead == 0:
        raise ConfigError(
            f"{source}: salvage uses steps that were drafted ahead, and lookahead is 0: set lookahead (--lookahead), "
            "or leave salvage out"
        )
    if config.block > 1 and config.lookahead != 0:
        raise ConfigError(
            f"{source}: block drafts steps ahead by itself: set lookahead to 0 (--lookahead 0), or leave block out "
            "(--block)"
        )
    config.check_run_type(source)
    config.models.check(source)
    config.sampling.check(source)
    config.boundary.check(source)
    return config


def override(config: Config, changes: dict[str, Any], source: str) -> Config:
    """Return ``config`` with the keys of the nested ``changes`` set. Raises ``ConfigError`` as ``parse``."""
    return parse(config_files.merged(msgspec.to_builtins(config), changes), source)
