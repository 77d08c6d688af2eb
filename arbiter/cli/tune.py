"""``arbiter tune``: choose the threshold that meets a budget, and write it into a configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from cyclopts import Parameter

from arbiter.cli.console import guarded, print_rows, progress_bar, stdout
from arbiter.cli.endings import say
from arbiter.cli.simulate import HardwareOptions, WorkloadOptions
from arbiter.cli.terminal import write_json
from arbiter.config.config import Config, load_config
from arbiter.data.training_rows import Split
from arbiter.protocols.errors import ConfigError, RunError, os_reason
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.finding import resolve
from arbiter.runs.stored_config import as_toml

if TYPE_CHECKING:
    from arbiter.data.training_rows import TrainingRow
    from arbiter.evaluation.checkpoints import RouterCheckpoint
    from arbiter.evaluation.tuning import Tuned, TuningSteps

Policy = Literal["router", "rsd", "confidence"]
_FEWEST = 100  # fewer resamples give no reliable 2.5 % quantile


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """The budget: exactly one of these options."""

    escalation: float | None = None
    """Escalate at most this share of the steps, from 0 to 1. Give exactly one of `--escalation`, `--target-tokens`,
    `--latency` and `--accuracy`."""

    target_tokens: float | None = None
    """Write at most this mean number of target tokens per problem."""

    latency: float | None = None
    """Take at most this mean number of seconds per problem. With `--data` the seconds are simulated on the given GPUs
    and synthetic problems. With `--sweep` they are those of the runs."""

    accuracy: float | None = None
    """Reach at least this share of right answers, from 0 to 1. Needs `--sweep`, because collected steps have no
    grades."""

    def chosen(self) -> tuple[str, float]:
        """Return the given option's name and value. Raises ``ConfigError`` unless one is given, within its range."""
        given = {name: value for name in self.__dataclass_fields__ if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in self.__dataclass_fields__)
            raise ConfigError(f"{len(given)} budgets are given, but exactly one is needed: give one of {options}")
        [(name, value)] = given.items()
        most = 1.0 if name in ("escalation", "accuracy") else float("inf")
        if not 0 <= value <= most or value == float("inf"):
            range_ = "from 0 to 1" if most == 1 else "0 or more"
            raise ConfigError(f"--{name.replace('_', '-')} {value:g}: give a number {range_}")
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

    From a collection (`--data`) the threshold is a quantile of the scores of its steps. From a sweep (`--sweep`) it is
    interpolated between two of its graded runs. The command prints the threshold with its 95 % interval, computed by
    resampling problems. It also prints the expected results for the steps that the threshold was chosen on, and for the
    split `test`, if there is one. The copy has all keys, but no comments (docs/how-to/choose-a-threshold.md).

    Examples:

        arbiter tune pocket --data rows --escalation 0.2 --out tuned.toml
        arbiter tune pocket --data rows --target-tokens 40 --policy rsd --out tuned.toml
        arbiter tune math500 --data rows --latency 6 --gpu A100 --out tuned.toml
        arbiter tune pocket --sweep runs/curve --accuracy 0.8 --out tuned.toml

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration. For the policy `router` with `--data`, its
        `models.router` is the checkpoint whose threshold is chosen.
    out
        The configuration file to write, with the run type and its threshold.
    data
        The folder of a collection (`arbiter collect`), `@last` or the beginning of its name (see `arbiter runs`), or
        its `rows.jsonl`. Give either `--data` or `--sweep`.
    sweep
        The folder of a sweep (`arbiter sweep`), named in the same ways, with several thresholds of the policy.
    policy
        The policy whose threshold is chosen. Default: the run type of the configuration.
    split
        The split of the rows that the threshold is chosen on.
    resamples
        The number of resamples of the problems for the intervals, at least 100. `--seed` is also their seed.
    json
        Print only the result, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        chosen = load_config(config)
        request = TuneRequest(_policy(policy, chosen), *budget.chosen(), resamples, workload.seed)
        if chosen.step_offsets:
            raise ConfigError(
                "step_offsets: tune sets one threshold for all steps, and does not know those of each step: leave "
                "step_offsets out, or learn both with arbiter fit --policy positions"
            )
        if (data is None) == (sweep is None):
            raise ConfigError("give exactly one of --data and --sweep")
        if Path(config).is_file() and out.resolve() == Path(config).resolve():
            raise ConfigError(
                f"--out {out} is the configuration itself, which would lose its comments: give another path"
            )
        if resamples < _FEWEST:
            raise ConfigError(f"--resamples {resamples}: give {_FEWEST} or more, which a 95 % interval needs")
        if sweep is not None:
            found = _from_sweep(request, resolve(sweep, ("sweep",)))
        else:
            found = _from_rows(request, chosen, resolve(data or Path(), ("collection",)), split, hardware, workload)
        _write(found, chosen, out)
        _print(found, out, json, "the sweep" if sweep else f"split {split}")
        return 0

    return guarded(debug, action)


@dataclass(frozen=True)
class TuneRequest:
    """The policy to tune, the budget that its threshold must meet, and the settings of the intervals."""

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
        f"--policy: the run type {config.run_type!r} cannot be tuned; give one of {', '.join(get_args(Policy))}"
    )


def _from_sweep(request: TuneRequest, folder: Path) -> "Tuned":
    from arbiter.evaluation import sweep_tuning

    names: dict[str, sweep_tuning.Budget] = {
        "escalation": "escalated",
        "target_tokens": "target_tokens",
        "latency": "seconds",
        "accuracy": "accuracy",
    }
    runs = sweep_tuning.read_sweep(folder, request.policy)
    budget = names[request.budget]
    return sweep_tuning.tune(runs, request.policy, budget, request.value, request.resamples, request.seed)


def _from_rows(
    request: TuneRequest, config: Config, data: Path, split: Split, hardware: HardwareOptions, workload: WorkloadOptions
) -> "Tuned":
    from arbiter.evaluation.evaluate import rows_of
    from arbiter.evaluation.tuning import steps_of
    from arbiter.training.training_data import read_rows

    if request.budget == "accuracy":
        raise ConfigError(
            "--accuracy needs graded runs, and collected steps have no grades: run arbiter sweep CONFIG "
            f"--run-types {request.policy} --thresholds 0:1:0.1, and give its folder with --sweep"
        )
    rows = read_rows(data)
    router = _router(config) if request.policy == "router" else None
    steps = steps_of(rows_of(rows, split, str(data)), request.policy, router)
    test: list[TrainingRow] = [row for row in rows if row.split == "test" != split]
    held_out = steps_of(test, request.policy, router) if test else None
    share = _share(request, config, hardware, workload)
    return tuned(request, steps, held_out, share)


def tuned(request: TuneRequest, steps: "TuningSteps", held_out: "TuningSteps | None", share: float | None) -> "Tuned":
    """Return the threshold that escalates a ``share`` of ``steps``, or that meets the target tokens (None)."""
    from arbiter.evaluation.tuning import Tuned, by_escalation, by_target_tokens, expected

    drawing = request.resamples, request.seed
    if share is None:
        threshold = by_target_tokens(steps, request.value, *drawing)
    else:
        threshold = by_escalation(steps, share, *drawing)
    at = threshold.value or 0.0
    checked = None if held_out is None else expected(held_out, at, *drawing)
    return Tuned(request.policy, threshold, expected(steps, at, *drawing), checked)


def _router(config: Config) -> "RouterCheckpoint":
    """Return the router of the configuration. Raises ``ConfigError`` if it is not a model in process."""
    from arbiter.config.model_tables import DraftHeadTable, InProcessTable
    from arbiter.evaluation.checkpoints import checkpoint

    table = config.models.router
    if not isinstance(table, InProcessTable | DraftHeadTable):
        raise ConfigError(
            "tuning the router needs its checkpoint in process: set models.router with backend = 'transformers', or "
            "tune from a sweep (--sweep)"
        )
    return checkpoint(table.model, table, config.separator)


def _share(request: TuneRequest, config: Config, hardware: HardwareOptions, workload: WorkloadOptions) -> float | None:
    """Return the share of steps to escalate, or None for a budget of tokens."""
    from arbiter.evaluation.latency_budget import ACCEPTANCES, escalation_within

    if request.budget != "latency":
        return request.value if request.budget == "escalation" else None
    world = workload.world()
    with progress_bar("simulating") as progress:
        task = progress.add_task("", total=world.problems * len(ACCEPTANCES))
        servers = hardware.applied_to(config)
        share = escalation_within(request.value, config, request.policy, servers, world, lambda: progress.advance(task))
    say(f"simulated: up to {share:.1%} of the steps can be escalated within {request.value:g} s per problem")
    return share


def _write(found: "Tuned", config: Config, out: Path) -> None:
    threshold = cast("float", found.threshold.value)  # tuning raises if it finds none
    text = as_toml(config.with_run_type(found.policy, "tune").with_threshold(threshold, "tune"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {out}: {os_reason(error)}") from error
    replace_file(out, text)


def _print(found: "Tuned", out: Path, as_json: bool, chosen_on: str) -> None:
    from arbiter.evaluation.evaluation_report import level, tuning

    if as_json:
        write_json(found)
    else:
        stdout.print(f"{found.policy}: τ = {level(found.threshold)}, chosen on {chosen_on}", highlight=False)
        print_rows(tuning(found))
        if found.held_out is None:
            stdout.print("no rows are held out: check the threshold on other problems before using it", highlight=False)
    say(f"wrote {out}, with all keys of the configuration and without its comments")
    say(f"to use it: arbiter bench {out}")
