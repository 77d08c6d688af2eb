"""``arbiter tune``: the threshold that meets a budget, written into a configuration."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import msgspec
from cyclopts import Parameter

from arbiter.cli.console import guarded, progress_bar, stderr, stdout
from arbiter.cli.simulate import HardwareOptions, WorkloadOptions
from arbiter.config.config import Config, load_config
from arbiter.data.training_rows import Split
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.runs.folder import as_toml, replace_file

if TYPE_CHECKING:
    from arbiter.data.training_rows import TrainingRow
    from arbiter.evaluation.checkpoints import RouterCheckpoint
    from arbiter.evaluation.tuning import Tuned, TuningSteps

Policy = Literal["router", "rsd", "confidence"]
_FEWEST = 100  # resamples of which a 2.5 % quantile can be told


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """What is wanted: exactly one of these."""

    escalation: float | None = None
    """The share of steps that are escalated, 0 to 1."""

    target_tokens: float | None = None
    """Tokens that the target writes, a problem in the mean."""

    latency: float | None = None
    """Seconds a problem takes in the mean: by the simulator, over the stated workload; with `--sweep` those of the
    runs."""

    accuracy: float | None = None
    """The share of right answers, 0 to 1; needs `--sweep`, since steps have no grades."""

    def chosen(self) -> tuple[str, float]:
        """The option's name and its value. Raises ``ConfigError`` unless one is given, within its range."""
        given = {name: value for name in self.__dataclass_fields__ if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in self.__dataclass_fields__)
            raise ConfigError(f"tune takes exactly one of {options}, and {len(given)} are given")
        [(name, value)] = given.items()
        most = 1.0 if name in ("escalation", "accuracy") else float("inf")
        if not 0 <= value <= most or value == float("inf"):
            range_ = "from 0 to 1" if most == 1 else "0 or more"
            raise ConfigError(f"--{name.replace('_', '-')} is a number {range_}, and it is {value:g}")
        return name, value


_NO_BUDGET, _HARDWARE, _WORKLOAD = BudgetOptions(), HardwareOptions(), WorkloadOptions()


def tune_command(
    config: str,
    /,
    *,
    out: Path,
    data: Path | None = None,
    sweep: Path | None = None,
    budget: BudgetOptions = _NO_BUDGET,
    policy: Policy | None = None,
    split: Split = "validation",
    resamples: int = 1000,
    hardware: HardwareOptions = _HARDWARE,
    workload: WorkloadOptions = _WORKLOAD,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Choose the threshold that meets a budget, and write it into a copy of a configuration.

    From a collected set (`--data`) it is a quantile of the scores of its steps; from a sweep (`--sweep`) a place on the
    line between two of its graded runs. It is told with its 95 % interval, by resampling problems, and with what it is
    expected to give: on the steps that it was chosen on, and on those of the split `test`, where there are any. The
    copy has all keys, and no comments (docs/evaluation.md).

    Examples:

        arbiter tune pocket --data runs/collected --escalation 0.2 --out tuned.toml
        arbiter tune pocket --data runs/collected --target-tokens 40 --policy rsd --out tuned.toml
        arbiter tune math500 --data runs/collected --latency 6 --target 70B@4xH100 --out tuned.toml
        arbiter tune pocket --sweep runs/curve --accuracy 0.8 --out tuned.toml

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in one. Its `models.router` is the checkpoint that is asked.
    out
        The configuration that is written, with the run type and its threshold.
    data
        The folder of a collected set, or its `rows.jsonl`.
    sweep
        The folder of a sweep with several thresholds of the policy.
    policy
        Whose threshold is chosen: `router`, `rsd` or `confidence`. By default the configuration's run type.
    split
        The part of the rows that the threshold is chosen on.
    resamples
        How many resamples of the problems the intervals are from; `--seed` decides them too.
    json
        Print what was found as JSON on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        chosen = load_config(config)
        wanted = Wanted(_policy(policy, chosen), *budget.chosen(), resamples, workload.seed)
        if (data is None) == (sweep is None):
            raise ConfigError("tune takes exactly one of --data and --sweep")
        if Path(config).is_file() and out.resolve() == Path(config).resolve():
            raise ConfigError(f"--out {out} is the configuration itself, whose comments would be lost: name another")
        if resamples < _FEWEST:
            raise ConfigError(f"--resamples must be {_FEWEST} or more, and it is {resamples}: an interval has tails")
        if sweep is not None:
            found = _from_sweep(wanted, sweep)
        else:
            found = _from_rows(wanted, chosen, data or Path(), split, hardware, workload)
        _write(found, chosen, out)
        _tell(found, out, json, "the sweep" if sweep else f"split {split}")
        return 0

    return guarded(debug, action)


@dataclass(frozen=True)
class Wanted:
    """A policy, what its threshold is to meet, and how the intervals are found."""

    policy: Policy
    budget: str
    value: float
    resamples: int
    seed: int


def _policy(given: Policy | None, config: Config) -> Policy:
    for known in get_args(Policy):
        if known == (given or config.run_type):
            return known
    raise ConfigError(
        f"--policy: the run type {config.run_type!r} is not tuned; give one of {', '.join(get_args(Policy))}"
    )


def _from_sweep(wanted: Wanted, folder: Path) -> "Tuned":
    from arbiter.evaluation import sweep_tuning

    names: dict[str, sweep_tuning.Budget] = {
        "escalation": "escalated",
        "target_tokens": "target_tokens",
        "latency": "seconds",
        "accuracy": "accuracy",
    }
    runs = sweep_tuning.read_sweep(folder, wanted.policy)
    return sweep_tuning.tune(runs, wanted.policy, names[wanted.budget], wanted.value, wanted.resamples, wanted.seed)


def _from_rows(
    wanted: Wanted, config: Config, data: Path, split: Split, hardware: HardwareOptions, workload: WorkloadOptions
) -> "Tuned":
    from arbiter.evaluation.evaluate import rows_of
    from arbiter.evaluation.tuning import steps_of
    from arbiter.training.training_data import read_rows

    if wanted.budget == "accuracy":
        raise ConfigError(
            "--accuracy needs graded runs, which collected steps have not: give a sweep with --sweep, "
            f"as in arbiter sweep CONFIG --run-types {wanted.policy} --thresholds 0:1:0.1"
        )
    rows = read_rows(data)
    router = _router(config) if wanted.policy == "router" else None
    steps = steps_of(rows_of(rows, split, str(data)), wanted.policy, router)
    test: list[TrainingRow] = [row for row in rows if row.split == "test" != split]
    held_out = steps_of(test, wanted.policy, router) if test else None
    share = _share(wanted, config, hardware, workload)
    return tuned(wanted, steps, held_out, share)


def tuned(wanted: Wanted, steps: "TuningSteps", held_out: "TuningSteps | None", share: float | None) -> "Tuned":
    """The threshold for the ``share`` of ``steps`` escalated, or (None) for the wanted target tokens."""
    from arbiter.evaluation.tuning import Tuned, by_escalation, by_target_tokens, expected

    drawing = wanted.resamples, wanted.seed
    if share is None:
        threshold = by_target_tokens(steps, wanted.value, *drawing)
    else:
        threshold = by_escalation(steps, share, *drawing)
    at = threshold.value or 0.0
    checked = None if held_out is None else expected(held_out, at, *drawing)
    return Tuned(wanted.policy, threshold, expected(steps, at, *drawing), checked)


def _router(config: Config) -> "RouterCheckpoint":
    """The checkpoint of the configuration. Raises ``ConfigError`` if there is none in process."""
    from arbiter.config.model_tables import InProcessTable
    from arbiter.evaluation.checkpoints import checkpoint

    table = config.models.router
    if not isinstance(table, InProcessTable):
        raise ConfigError(
            "tuning the router asks its checkpoint in this process: set models.router with backend = 'transformers', "
            "or tune from a sweep (--sweep)"
        )
    return checkpoint(table.model, table, config.separator)


def _share(wanted: Wanted, config: Config, hardware: HardwareOptions, workload: WorkloadOptions) -> float | None:
    """The share of steps to escalate; None where the budget is of tokens."""
    from arbiter.evaluation.latency_budget import ACCEPTANCES, escalation_within

    if wanted.budget != "latency":
        return wanted.value if wanted.budget == "escalation" else None
    world = workload.world()
    with progress_bar("simulating") as progress:
        task = progress.add_task("", total=world.problems * len(ACCEPTANCES))
        servers = hardware.applied_to(config)
        share = escalation_within(wanted.value, config, wanted.policy, servers, world, lambda: progress.advance(task))
    _say(f"simulated: {wanted.value:g} s a problem are met with up to {share:.1%} of the steps escalated")
    return share


def _write(found: "Tuned", config: Config, out: Path) -> None:
    threshold = cast("float", found.threshold.value)  # tuning raises if it finds none
    text = as_toml(config.with_run_type(found.policy, "tune").with_threshold(threshold, "tune"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, text)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror}") from error


def _tell(found: "Tuned", out: Path, as_json: bool, chosen_on: str) -> None:
    from arbiter.evaluation.evaluation_report import level, table, tuning

    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        stdout.print(f"{found.policy}: τ = {level(found.threshold)}, chosen on {chosen_on}", highlight=False)
        stdout.print(table(tuning(found)), highlight=False, markup=False, soft_wrap=True)
        if found.held_out is None:
            stdout.print("nothing is held out: check it on other problems before relying on it", highlight=False)
    _say(f"{out} has it, with all keys of the configuration and without its comments")


def _say(line: str) -> None:
    stderr.print(line, highlight=False, markup=False, soft_wrap=True)
