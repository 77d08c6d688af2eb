"""The options that override keys of the configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from cyclopts import Parameter

from arbiter.actors.controllers import Verify
from arbiter.cli.model_options import NO_MODELS, ModelOptions, origin
from arbiter.config.config import Config, load_config
from arbiter.config.run_tables import Level, RunType
from arbiter.protocols.errors import ConfigError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PolicyOverrides:
    """Options that also apply to a single question."""

    run_type: RunType | None = None
    """The policy, which decides for each step whether to accept the draft's candidate or to escalate to the target.
    `router` escalates where the learned router expects a better step from the target, `rsd` where the process reward
    model (PRM) gives the draft a low score, `confidence` where the draft model was unsure, `judge` where a language
    model gives the draft a low rating, `glimpse` where the first token of the step is uncertain, and `random` by
    chance. `oracle` and `generate` call both models at every step.
    `draft` and `target` use only one model. Default: `run_type` of the configuration (`router`)."""

    threshold: float | None = None
    """The threshold τ of the run type: 0 to 1, or -1 to 1 for `oracle`. A lower τ escalates more for `router` and
    `oracle`, less for `rsd`, `confidence`, `judge` and `glimpse`. For `random` it is the probability of escalating.
    Default: `thresholds.TYPE` of the configuration, where TYPE is the run type."""

    temperature: float | None = None
    """The sampling temperature of draft and target. 0 is greedy decoding. Default: `sampling.temperature` of the
    configuration (0)."""

    seed: int | None = None
    """The seed of the sampling noise above temperature 0, of the choices of `random`, and of the choice of audited
    escalations. Default: `seed` of the configuration (0)."""

    def load(self, name: str | Mapping[str, Any], log_level: Level | None = None) -> Config:
        """Return the configuration ``name``, or that of these tables, with the options and the log level applied.

        Raises ``ConfigError`` naming the key that is wrong.
        """
        config = load_config(name, self.changes() | given(log=given(level=log_level)))
        return config if self.threshold is None else config.with_threshold(self.threshold)

    def changes(self) -> dict[str, Any]:
        """Return the configuration keys that the options set, as nested tables.

        The threshold is left out: its key depends on the run type, see ``load``.
        """
        return given(run_type=self.run_type, seed=self.seed, sampling=given(temperature=self.temperature))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RingOverrides(PolicyOverrides):
    """Options that apply to several problems in one ring."""

    concurrency: int | None = None
    """The number of problems that are solved concurrently; each sample counts as one. Default: `limits.problems` of the
    configuration (64)."""

    lookahead: int | Literal["auto"] | None = None
    """Drafting ahead: the number of next steps, from 0 to 64, that the draft model already writes while a step is
    scored, or written by the target. `auto` adapts the number. Transcripts do not change. It costs additional draft
    tokens, so use it if the draft's server has free capacity. Default: `lookahead` of the configuration (0)."""

    block: int | None = None
    """The number of steps, from 1 to 64, that are drafted before they are scored in one request. Transcripts do not
    change. At a high acceptance rate it saves requests; each rejected draft wastes those after it. Excludes
    `--lookahead`. Default: `block` of the configuration (1)."""

    verify: Verify | None = None
    """Verified escalation: the target reads a rejected draft, keeps the prefix that it would have written itself, and
    writes only the rest. `on`, `off`, or `auto`: only where it saves time. Transcripts do not change. Above temperature
    0 it is off. Default: `verify` of the configuration (`auto`)."""

    salvage: Annotated[bool | None, Parameter(negative="--no-salvage")] = None
    """Reuse a step that was drafted ahead even if the step before it was replaced. It saves draft tokens, but changes
    transcripts. Needs `--lookahead`. Default: `salvage` of the configuration (false)."""

    adaptive: Annotated[bool | None, Parameter(negative="--no-adaptive")] = None
    """While a server is overloaded, send it fewer concurrent requests than `in_flight` of its model allows. With
    `--no-adaptive` the limit is always `in_flight`. Default: `adaptive` of the configuration (true)."""

    def changes(self) -> dict[str, Any]:
        return super().changes() | given(
            adaptive=self.adaptive,
            block=self.block,
            lookahead=self.lookahead,
            verify=self.verify,
            salvage=self.salvage,
            limits=given(problems=self.concurrency),
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOverrides(RingOverrides):
    """Options for a run over the problems of a data set."""

    data: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    """The source of the problems: `pocket`, `pocket:SEED`, `champ`, a file (CSV, TSV, JSON, JSONL, Parquet, or text
    with one question per line), `-` for such a file on standard input, a folder of files, a published data set such as
    `gsm8k` (docs/reference/data-sets.md), or any data set of the Hugging Face hub (`OWNER/NAME`, `OWNER/NAME:SPLIT` or
    `OWNER/NAME:SUBSET:SPLIT`). The field names of common data sets are known. Map other names in the configuration
    (`[data] fields`). Default: `data.source` of the configuration (`pocket:1`)."""

    limit: int | None = None
    """Solve only this number of problems, the first ones of the data. Default: `data.limit` of the configuration, or
    all. If `--data` names a file or a data set that is not the one of the configuration, the default is all."""

    samples: int | None = None
    """The number of solutions to sample for each problem. More than 1 needs a temperature above 0. Then pass@k and the
    majority vote are reported too. Default: `sampling.samples` of the configuration (1)."""

    budget: float | None = None
    """The share of decided steps, between 0 and 1, that may be escalated. To meet this share, the threshold of
    `router`, `rsd`, `confidence`, `judge` or `glimpse` is adjusted during the run. Results then depend on the order
    in which steps are decided. Default: `budget` of the configuration (none)."""

    audit: float | None = None
    """To measure wasted escalations, let the PRM score both candidates of this share of the escalations, from 0 to 1.
    These requests are counted separately, and change no decision. Default: `audit` of the configuration (0)."""

    def changes(self) -> dict[str, Any]:
        return super().changes() | given(
            audit=self.audit,
            budget=self.budget,
            data=given(source=self.data, limit=self.limit),
            sampling=given(samples=self.samples, temperature=self.temperature),
        )


NOT_GIVEN = RunOverrides()


class SourceOptions(Protocol):
    """Options that name a data set, and perhaps a run type."""

    @property
    def data(self) -> str | None: ...
    @property
    def run_type(self) -> RunType | None: ...


def given(**options: Any) -> dict[str, Any]:  # noqa: ANN401 - options are of any type
    """Return the ``options`` that are set: neither ``None`` nor an empty table."""
    return {key: value for key, value in options.items() if value is not None and value != {}}


def configured(
    config: str | None,
    out: Path | None,
    resume: Path | None,
    check: Callable[[Path], object],
    models: ModelOptions = NO_MODELS,
    options: SourceOptions = NOT_GIVEN,
) -> str | dict[str, Any]:
    """Return the configuration to load: ``config``, that of ``models``, or the one stored in the folder ``resume``.

    ``check`` is called with ``resume`` and raises if that folder cannot be resumed. Raises ``ConfigError`` if none
    is given, if ``models`` need a data set that ``options`` do not name, or if ``out`` and ``resume`` differ.
    """
    if resume is not None:
        if out is not None and out != resume:
            raise ConfigError(f"--resume {resume} continues in that folder: leave out --out")
        check(resume)
        if config is None and models == NO_MODELS:
            if not (resume / "config.toml").is_file():
                raise ConfigError(
                    f"--resume {resume}: it has no config.toml; name the configuration of the run as well"
                )
            return str(resume / "config.toml")
    found = origin(config, models, options.run_type)
    if isinstance(found, dict) and "data" not in found and options.data is None:
        raise ConfigError(
            "--data is missing: name the problems, for example --data problems.jsonl or --data math500 (a file, or a "
            "data set of the Hugging Face hub)"
        )
    return found
