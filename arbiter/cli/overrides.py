"""The options that take the place of the configuration's keys."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cyclopts import Parameter

from arbiter.actors.controllers import Verify
from arbiter.config.config import Config, built_in, load_config
from arbiter.config.run_tables import Level, RunType
from arbiter.protocols.errors import ConfigError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PolicyOverrides:
    """Options for a single question."""

    run_type: RunType | None = None
    """Who is asked, and which step is kept: `router` escalates where the learned router expects the target to write a
    better step, `rsd` where the draft's process reward is low, `confidence` where the draft model was unsure, `judge`
    where a language model rates the draft low, `random` by chance; `oracle` and `generate` ask both
    models at every step; `draft` and `target` are one model alone."""

    threshold: float | None = None
    """The knob of the run type, on its own scale: a lower one escalates more for `router` and `oracle`, less for
    `rsd`, `confidence` and `judge`; for `random` it is the probability of escalating."""

    temperature: float | None = None
    """How freely the models choose their tokens; 0 always takes the likeliest."""

    seed: int | None = None
    """Decides the sampling noise above temperature 0, the choices of `random`, and the audited sample."""

    def load(self, name: str, log_level: Level | None = None) -> Config:
        """The configuration ``name`` with the options that were given, and the log's level.

        Raises ``ConfigError`` naming the key that is wrong.
        """
        config = load_config(name, self.changes() | given(log=given(level=log_level)))
        return config if self.threshold is None else config.with_threshold(self.threshold)

    def changes(self) -> dict[str, Any]:
        """The keys that the options set, as a tree of tables, without the threshold, whose key is the run type's."""
        return given(run_type=self.run_type, seed=self.seed, sampling=given(temperature=self.temperature))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RingOverrides(PolicyOverrides):
    """Options for a ring."""

    concurrency: int | None = None
    """How many problems are in the ring at once; each sample of a problem counts as one."""

    lookahead: int | Literal["auto"] | None = None
    """How many steps are drafted ahead while a step is scored or regenerated, or `auto`. It changes no transcript, and
    costs draft tokens; worth it where the draft's server has room."""

    verify: Verify | None = None
    """Whether the target is shown a rejected draft, so that it writes only what it would not have written itself: `on`,
    `off`, or where it pays (`auto`). It changes no transcript; above temperature 0 it is off."""

    salvage: bool | None = None
    """Offer what was drafted ahead for a step that was not kept as the draft of its step all the same; it changes
    transcripts, and saves drafts. Needs `--lookahead`."""

    adaptive: bool | None = None
    """Have fewer requests at a server than `in_flight` while it cannot bear as many (the default); `--no-adaptive`
    pins their number."""

    def changes(self) -> dict[str, Any]:
        return super().changes() | given(
            adaptive=self.adaptive,
            lookahead=self.lookahead,
            verify=self.verify,
            salvage=self.salvage,
            limits=given(problems=self.concurrency),
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOverrides(RingOverrides):
    """Options for many problems."""

    data: str | None = None
    """`pocket`, `pocket:SEED`, `math500`, `olympiadbench`, a data set of the Hugging Face hub (`OWNER/NAME`,
    `OWNER/NAME:SPLIT` or `OWNER/NAME:SUBSET:SPLIT`), or a JSONL file; the field names of the usual releases are known,
    others are named in the configuration (`[data] fields`)."""

    limit: int | None = None
    """Take only the first problems."""

    samples: int | None = None
    """Decode each problem so many times, and report mean accuracy, pass@k and the majority's answer; needs a
    temperature above 0."""

    budget: float | None = None
    """The share of drafted steps (0 to 1) that may be escalated, for `router`, `rsd`, `confidence` and `judge`: their
    threshold is moved to hold it, so that results depend on the order in which steps are decided."""

    audit: float | None = None
    """The share of escalations (0 to 1) whose two candidates the PRM scores for the report. Those calls are counted
    apart."""

    def changes(self) -> dict[str, Any]:
        return super().changes() | given(
            audit=self.audit,
            budget=self.budget,
            data=given(source=self.data, limit=self.limit),
            sampling=given(samples=self.samples, temperature=self.temperature),
        )


NOT_GIVEN = RunOverrides()


def given(**options: Any) -> dict[str, Any]:  # noqa: ANN401 - options are of any type
    """Those of ``options`` that were set; a table of which none was set is left out."""
    return {key: value for key, value in options.items() if value is not None and value != {}}


def configured(config: str | None, out: Path | None, resume: Path | None, check: Callable[[Path], object]) -> str:
    """The configuration's name, or that of what is to be resumed, whose folder ``check`` refuses if it is none.

    Raises ``ConfigError``, and what ``check`` raises.
    """
    if resume is None:
        if config is None:
            raise ConfigError(f"name a configuration: a file, or a built-in one ({', '.join(built_in())})")
        return config
    if out is not None and out != resume:
        raise ConfigError(f"--resume {resume} goes on in that folder: leave --out out")
    check(resume)
    return config or str(resume / "config.toml")
