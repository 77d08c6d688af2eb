"""The configuration of an experiment: one TOML file, strict about its keys.

Every key that may be written is a field below. A key that is not known is refused with its full name and
the nearest known one.
"""

import difflib
import re
import tomllib
import types
import typing
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from actors.policies import (
    DraftOnly,
    GenerateRows,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
)
from protocols.errors import ConfigError
from protocols.ports import Policy
from protocols.records import Limits, Sampling

RunType = Literal["rsd", "oracle", "router", "generate", "draft", "target", "random"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables."""


class Thresholds(_Table, frozen=True):
    """The one knob of each run type that has one, each on a scale of its own; ``--threshold`` sets the run's.

    ``rsd``: keep the draft iff h ≥ τ. ``router``: keep the draft iff ŷ ≤ τ. ``oracle``: keep the target iff
    Δ > τ. ``random``: the probability of escalating a step.
    """

    rsd: Share = 0.7
    router: Share = 0.5
    oracle: Annotated[float, msgspec.Meta(ge=-1, le=1)] = 0.0
    random: Share = 0.5


class SamplingTable(_Table, frozen=True):
    """``temperature`` 0 is greedy. ``target_samples`` counts where target and draft are both scored."""

    temperature: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    target_samples: Count = 1


class LimitsTable(_Table, frozen=True):
    """Where a problem ends at the latest (``protocols.records.Limits``), and how many are in the ring at once."""

    max_steps: Count = 100
    max_tokens: Count = 4096
    step_tokens: Count = 1024
    repeats: Annotated[int, msgspec.Meta(ge=2)] = 3
    deadline: Annotated[float, msgspec.Meta(gt=0)] | None = None
    problems: Count = 64


class DataTable(_Table, frozen=True):
    """Where the problems come from: ``pocket``, ``pocket:SEED`` or the path of a JSONL file; the first ``limit``."""

    source: str = "pocket:1"
    limit: Count | None = None


class ModelTable(_Table, frozen=True):
    """A model in process.

    ``model`` is a folder, a hub name or ``pocket:ROLE``; ``prompt`` is its template, with ``{question}``;
    ``annotate`` prefixes each step with its author. ``in_flight`` requests are at the model at once, of
    which ``batch`` share a forward pass. ``device`` and ``dtype`` are torch's names, or ``auto``.
    """

    model: str
    prompt: str
    backend: Literal["transformers"] = "transformers"
    annotate: bool = False
    in_flight: Count = 128
    batch: Count = 128
    device: str = "auto"
    dtype: str = "auto"


class ModelTables(_Table, frozen=True):
    """The models that a run may call; it needs those alone that its run type calls."""

    draft: ModelTable | None = None
    target: ModelTable | None = None
    prm: ModelTable | None = None
    router: ModelTable | None = None


class Config(_Table, frozen=True):
    """A whole experiment.

    ``audit`` is the share of escalations whose both candidates the PRM scores off the path. ``cpu_threads`` is how
    many threads one operation of a model in process uses on a CPU (torch's own default if not set); tiny models
    are fastest with 1, since each model has a worker thread anyway.
    """

    models: ModelTables
    run_type: RunType = "router"
    thresholds: Thresholds = Thresholds()
    audit: Share = 0.0
    seed: int = 0
    separator: Annotated[str, msgspec.Meta(min_length=1)] = "\n\n"
    cpu_threads: Count | None = None
    sampling: SamplingTable = SamplingTable()
    limits: LimitsTable = LimitsTable()
    data: DataTable = DataTable()

    @property
    def threshold(self) -> float | None:
        """The knob of this run's type; None where it has none."""
        return getattr(self.thresholds, self.run_type, None)

    def with_threshold(self, threshold: float) -> "Config":
        """The same experiment with the knob of its run type turned. Raises ``ConfigError`` if it has none."""
        if self.run_type not in Thresholds.__struct_fields__:
            known = ", ".join(Thresholds.__struct_fields__)
            raise ConfigError(f"the run type {self.run_type!r} has no threshold; those that have one: {known}")
        return override(self, {"thresholds": {self.run_type: threshold}}, "--threshold")

    def policy(self) -> Policy:
        """The rule of this run's type."""
        match self.run_type:
            case "rsd":
                return RewardThreshold(self.thresholds.rsd)
            case "oracle":
                return Oracle(self.thresholds.oracle)
            case "router":
                return LearnedRouter(self.thresholds.router)
            case "random":
                return RandomEscalation(self.thresholds.random)
            case "generate":
                return GenerateRows()
            case "draft":
                return DraftOnly()
            case "target":
                return TargetOnly()

    def problem_limits(self) -> Limits:
        """The limits of one problem."""
        table = self.limits
        return Limits(table.max_steps, table.max_tokens, table.step_tokens, table.repeats, table.deadline)

    def problem_sampling(self) -> Sampling:
        """The sampling of one problem."""
        return Sampling(self.sampling.temperature, self.sampling.top_p, self.sampling.target_samples)


def load_config(name: str) -> Config:
    """Read the configuration at the path ``name``, or the built-in one of that name. Raises ``ConfigError``."""
    path = _find(name)
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def built_in() -> dict[str, Path]:
    """The configurations that come with Arbiter, by name."""
    here = Path(__file__).parent
    folder = next((found for found in (here / "configs", here.parent / "configs") if found.is_dir()), here)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def parse(tree: dict[str, Any], source: str) -> Config:
    """Check a tree of tables. Raises ``ConfigError`` naming ``source``, the key and the way out."""
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_told(str(error))}") from error


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


def _merged(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(tree)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(typing.cast("dict[str, Any]", inner), value) if isinstance(inner, dict) else value
    return merged


_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?")
_PLACE = re.compile(r"(?P<what>.*) - at `\$\.(?P<path>[^`]*)`")


def _told(error: str) -> str:
    """msgspec's message in the words of the file: the full key first, and for an unknown key the nearest known one."""
    if unknown := _UNKNOWN.match(error):
        parents = [part for part in (unknown["path"] or "").split(".") if part]
        known = _fields(parents)
        near = difflib.get_close_matches(unknown["field"], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {'.'.join([*parents, unknown['field']])!r}; {hint}"
    if place := _PLACE.match(error):
        return f"{place['path']}: {place['what']}{_choices(place['path'].split('.'))}"
    return error


def _choices(path: list[str]) -> str:
    """The values that the key at ``path`` may have, where they can be listed."""
    hint = typing.get_type_hints(_table(path[:-1]), include_extras=True).get(path[-1])
    return f"; one of {', '.join(typing.get_args(hint))}" if typing.get_origin(hint) is Literal else ""


def _fields(path: list[str]) -> list[str]:
    """The keys of the table at ``path``."""
    return list(_table(path).__struct_fields__)


def _table(path: list[str]) -> Any:  # noqa: ANN401 - a class, known only at run time
    table: Any = Config
    for name in path:
        table = _struct_in(typing.get_type_hints(table)[name])
    return table


def _struct_in(hint: Any) -> Any:  # noqa: ANN401 - a type hint has no narrower type
    """The struct in a hint that may be a union with None."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next(option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct))
