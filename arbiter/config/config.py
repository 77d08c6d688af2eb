"""The configuration of an experiment: one TOML file, strict about its keys.

Every key that may be written is a field below. A key that is not known is refused with its full name and
the nearest known one.
"""

import difflib
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
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
from arbiter.config.base import ConfigTable, Count
from arbiter.config.model_tables import DEFAULT_BACKEND, AnyModelTable, Backend, InProcessTable, ModelTables
from arbiter.config.run_tables import (
    BUDGETED,
    DataTable,
    LimitsTable,
    LogTable,
    RunType,
    SamplingTable,
    Share,
    Thresholds,
)
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Policy
from arbiter.protocols.records import ConfidenceMetric, Limits, Sampling, Target

_THRESHOLDS = typing.get_type_hints(Thresholds, include_extras=True)
"""The type of each run type's threshold, with its range."""


class Config(ConfigTable, frozen=True):
    """A whole experiment.

    ``audit`` is the share of escalations whose both candidates the PRM scores off the path. ``cpu_threads`` is how
    many threads one operation of a model in process uses on a CPU (torch's own default if not set); tiny models
    are fastest with 1, since each model has a worker thread anyway. ``lookahead`` is how many steps are drafted ahead
    while a step is scored or regenerated, or ``auto``. ``verify`` says whether the target is shown a rejected draft, so
    that it writes only what it would not have written itself: ``on``, ``off``, or where it pays (``auto``). Neither
    changes a transcript. ``salvage`` does: what was drafted ahead for a step that was not kept is offered all the same,
    in its new context. ``confidence`` is how the draft's confidence is measured, for the run types that ask for it
    (``measure``). ``budget`` is the share of drafted steps that may be escalated: the threshold of the run type is then
    only where it begins, and is moved so that the share is held while the problems change. ``adaptive``: of each server
    ``in_flight`` is the most; fewer requests are at it while it cannot bear as many.
    """

    models: ModelTables
    run_type: RunType = "router"
    thresholds: Thresholds = Thresholds()
    audit: Share = 0.0
    seed: int = 0
    separator: Annotated[str, msgspec.Meta(min_length=1)] = "\n\n"
    cpu_threads: Count | None = None
    lookahead: Annotated[int, msgspec.Meta(ge=0, le=64)] | Literal["auto"] = 0
    verify: Verify = "auto"
    salvage: bool = False
    confidence: ConfidenceMetric | None = None
    budget: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    adaptive: bool = True
    sampling: SamplingTable = SamplingTable()
    limits: LimitsTable = LimitsTable()
    data: DataTable = DataTable()
    log: LogTable = LogTable()

    @property
    def depth(self) -> int | None:
        """How many steps are drafted ahead; None where a controller says so."""
        return None if self.lookahead == "auto" else self.lookahead

    @property
    def threshold(self) -> float | None:
        """The knob of this run's type; None where it has none."""
        return getattr(self.thresholds, self.run_type, None)

    @property
    def confidence_metric(self) -> ConfidenceMetric | None:
        """How the draft's confidence is measured; None where the run does not ask for it.

        The run type ``confidence`` does, ``generate`` if the key is set or the draft is in process: a server that
        shows no probabilities would refuse it.
        """
        if self.run_type == "confidence":
            return self.confidence or "mean"
        if self.run_type == "generate":
            return self.confidence or ("mean" if isinstance(self.models.draft, InProcessTable) else None)
        return None

    def with_run_type(self, run_type: RunType, source: str, *, drop_budget: bool = False) -> "Config":
        """The same experiment with another run type.

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
        """The same experiment with another threshold of its run type.

        Raises ``ConfigError`` if the run type has none, or naming ``source`` if it is out of the range.
        """
        allowed = _THRESHOLDS.get(self.run_type)
        if allowed is None:
            known = ", ".join(_THRESHOLDS)
            raise ConfigError(f"the run type {self.run_type!r} has no threshold; those that have one: {known}")
        try:
            checked = msgspec.convert(threshold, allowed)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{source}: thresholds.{self.run_type}: {error}") from error
        thresholds = msgspec.structs.replace(self.thresholds, **{self.run_type: checked})
        return msgspec.structs.replace(self, thresholds=thresholds)

    def check_run_type(self, source: str) -> None:
        """Raises ``ConfigError`` naming ``source`` if the run type does not go with the budget or the log."""
        if self.budget is not None and self.run_type not in BUDGETED:
            raise ConfigError(
                f"{source}: budget moves a threshold on the draft's score, and the run type {self.run_type!r} has "
                f"none: leave budget out, or take one of {', '.join(BUDGETED)}"
            )
        self.log.check(source, self.run_type)

    def policy(self) -> Policy:
        """The rule of this run's type."""
        match self.run_type:
            case "rsd":
                return RewardThreshold(self.thresholds.rsd, self.budget)
            case "oracle":
                return Oracle(self.thresholds.oracle)
            case "router":
                targets = tuple(Target(name, table.cost or 1.0) for name, table in self.models.targets.items())
                return LearnedRouter(self.thresholds.router, targets, self.budget)
            case "judge":
                return JudgeThreshold(self.thresholds.judge, self.budget)
            case "random":
                return RandomEscalation(self.thresholds.random)
            case "generate":
                return GenerateRows(self.confidence_metric, tuple(self.models.targets))
            case "confidence":
                return ConfidenceThreshold(self.thresholds.confidence, self.confidence_metric or "mean", self.budget)
            case "draft":
                return DraftOnly()
            case "target":
                return TargetOnly()

    def called_tables(self) -> dict[str, AnyModelTable | None]:
        """The tables of the models that the run may call, by their keys behind ``models.``; None if one is missing."""
        policy, there = self.policy(), self.models.configured()
        targets = [f"targets.{name}" for name in target_names(policy.targets) or list(self.models.targets)[:1]]
        called = called_models(policy, self.audit)
        places = [place for name in called for place in (targets if name == "target" and targets else (name,))]
        return {place: there.get(place) for place in places}

    def problem_limits(self) -> Limits:
        """The limits of one problem."""
        table = self.limits
        return Limits(table.max_steps, table.max_tokens, table.step_tokens, table.repeats, table.deadline)

    def problem_sampling(self) -> Sampling:
        """The sampling of one problem."""
        return Sampling(self.sampling.temperature, self.sampling.top_p, self.sampling.target_samples)


def load_config(name: str, changes: Mapping[str, Any] | None = None, source: str = "command line") -> Config:
    """Read the configuration at the path ``name``, or the built-in one of that name.

    ``changes`` are keys, nested as in the file, that replace those of the file before it is parsed; ``source`` is where
    they come from. Raises ``ConfigError``, naming the file if it is wrong by itself, and ``source`` otherwise.
    """
    path = _find(name)
    tree = _tree(path)
    if not changes:
        return parse(tree, str(path))
    try:
        return parse(_merged(tree, changes), source)
    except ConfigError:
        parse(tree, str(path))  # an error of the file is reported under its name
        raise


def _tree(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def built_in() -> dict[str, Path]:
    """The configurations that come with Arbiter, by name."""
    here = Path(__file__).parent.parent
    folder = next((found for found in (here / "configs", here.parent / "configs") if found.is_dir()), here)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def parse(tree: dict[str, Any], source: str) -> Config:
    """Check a tree of tables. Raises ``ConfigError`` naming ``source``, the key and the way out."""
    tree = _with_backends(tree)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        told = _told_of_targets(tree) if "models.targets[...]" in str(error) else None
        raise ConfigError(f"{source}: {told or _told(str(error), tree)}") from error
    if config.salvage and config.lookahead == 0:
        raise ConfigError(
            f"{source}: salvage offers what was drafted ahead, and lookahead is 0: set lookahead (--lookahead), or "
            "leave salvage out"
        )
    config.check_run_type(source)
    config.models.check(source)
    config.sampling.check(source)
    return config


def override(config: Config, changes: dict[str, Any], source: str) -> Config:
    """``config`` with the keys of the nested ``changes`` set, checked as a file is."""
    return parse(_merged(msgspec.to_builtins(config), changes), source)


def _find(name: str) -> Path:
    with suppress(OSError):  # a name that no file can have
        if Path(name).is_file():
            return Path(name)
    known = built_in()
    if name in known:
        return known[name]
    raise ConfigError(f"there is no configuration file {name!r}, and no built-in one; built in: {', '.join(known)}")


def _merged(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(tree)
    for key, value in changes.items():
        inner = merged.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            value = _merged(typing.cast("dict[str, Any]", inner), typing.cast("dict[str, Any]", value))
        elif inner is not None and isinstance(value, dict):
            continue  # the file has something else than a table there, which is refused when it is parsed
        merged[key] = value
    return merged


def _with_backends(tree: dict[str, Any]) -> dict[str, Any]:
    """``tree`` with the defaults of models' tables: the backend, and the judge's prompt."""
    models = tree.get("models")
    if not isinstance(models, dict):
        return tree
    named = {name: _with_default(name, table) for name, table in typing.cast("dict[str, Any]", models).items()}
    return {**tree, "models": named}


def _with_default(name: str, table: object) -> object:
    if not isinstance(table, dict):
        return table
    if name == "targets":
        return {name: _with_default("", one) for name, one in typing.cast("dict[str, Any]", table).items()}
    defaults = {"backend": DEFAULT_BACKEND, **({"prompt": "judge"} if name == "judge" else {})}
    return {**defaults, **typing.cast("dict[str, Any]", table)}


def _told_of_targets(tree: dict[str, Any]) -> str | None:
    """What is wrong with the first table of several targets that is wrong, whose name msgspec does not tell."""
    for name, table in tree["models"]["targets"].items():
        alone = {"models": {"target": table}}
        try:
            msgspec.convert(alone, Config)
        except msgspec.ValidationError as error:
            return _told(str(error), alone).replace("models.target", f"models.targets.{name}", 1)
    return None


_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?")
_PLACE = re.compile(r"(?P<what>.*) - at `\$\.(?P<path>[^`]*)`")


def _told(error: str, tree: dict[str, Any]) -> str:
    """msgspec's message in the words of the file: the full key first, and for an unknown key the nearest known one."""
    if unknown := _UNKNOWN.match(error):
        parents = [part for part in (unknown["path"] or "").split(".") if part]
        known = _fields(parents, tree)
        near = difflib.get_close_matches(unknown["field"], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {'.'.join([*parents, unknown['field']])!r}; {hint}"
    if place := _PLACE.match(error):
        return f"{place['path']}: {place['what']}{_choices(place['path'].split('.'), tree)}"
    return error


def _choices(path: list[str], tree: dict[str, Any]) -> str:
    """The values that the key at ``path`` may have, where they can be listed."""
    if path[-1] == "backend":
        hint: Any = Backend
    else:
        hint = typing.get_type_hints(_table(path[:-1], tree), include_extras=True).get(path[-1])
    choices = next((option for option in _options(hint) if typing.get_origin(option) is Literal), None)
    return "" if choices is None else f"; one of {', '.join(get_args(choices))}"


def _fields(path: list[str], tree: dict[str, Any]) -> list[str]:
    """The keys of the table at ``path``."""
    table = _table(path, tree)
    tag: str | None = table.__struct_config__.tag_field
    return [*([tag] if tag else []), *table.__struct_fields__]


def _table(path: list[str], tree: dict[str, Any]) -> Any:  # noqa: ANN401 - a class, known only at run time
    """The struct that the table at ``path`` of ``tree`` is read as."""
    table: Any = Config
    for name in path:
        tree = tree.get(name, {})
        table = _struct_in(typing.get_type_hints(table)[name], tree.get("backend"))
    return table


def _struct_in(hint: Any, backend: object) -> Any:  # noqa: ANN401 - a type hint has no narrower type
    """The struct in a hint that may be a union with None, or of the tables of several backends."""
    structs = [option for option in _options(hint) if isinstance(option, type) and issubclass(option, msgspec.Struct)]
    return next((option for option in structs if option.__struct_config__.tag == backend), structs[0])


def _options(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401 - as above
    """The members of a union, or the hint alone."""
    return get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
