"""``arbiter simulate``: estimate how long a run would take on given GPUs."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar, get_args

import msgspec
from cyclopts import Parameter

from arbiter.actors.controllers import Verify
from arbiter.cli.console import guarded, progress_bar, stdout
from arbiter.cli.overrides import given
from arbiter.cli.terminal import write_json
from arbiter.config.config import Config, built_in, load_config
from arbiter.config.model_tables import PAUSING_GATHER, SERVED_SHARE, ModelTable, RouterTable
from arbiter.config.run_tables import RunType
from arbiter.log.identity import check_unchanged
from arbiter.log.run import Run
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Gather
from arbiter.protocols.records import Model
from arbiter.runs.finding import LOGGED, resolve
from arbiter.simulation.cases import CasePlan
from arbiter.simulation.placement import placed
from arbiter.simulation.recorded_workload import RecordedWorkload
from arbiter.simulation.simulation_report import assumptions, tables
from arbiter.simulation.simulation_results import Case, Depth, SimulationResult
from arbiter.simulation.study import Hardware
from arbiter.simulation.synthetic_workload import LogNormal, SyntheticWorkload

Number = TypeVar("Number", int, float)
_STATED = SyntheticWorkload()
_MODELS: tuple[Model, ...] = ("draft", "target", "router", "prm", "judge")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class HardwareOptions:
    """The models' sizes and GPUs. Each model has its own server."""

    gpu: str = "H100"
    """The GPU type of each model whose option names no GPU: `A100`, `H100`, `H200` or `L40S`."""

    draft: str = "1.5B"
    """The size of the draft model, with its GPUs if they differ from `--gpu`: `1.5B`, `1.5B@A100`, or `70B@4xH100` for
    four GPUs. Known sizes: `1.5B`, `3B`, `7B`, `8B`, `32B`, `70B`, `PRM-1.5B` and `PRM-7B`."""

    target: str = "7B"
    """The size and GPUs of the target model, written as for `--draft`."""

    router: str = "PRM-1.5B"
    """The size and GPUs of the router, written as for `--draft`."""

    prm: str = "PRM-1.5B"
    """The size and GPUs of the process reward model, written as for `--draft`."""

    judge: str = "7B"
    """The size and GPUs of the judge, written as for `--draft`."""

    running: int = 64
    """The largest number of sequences that a server decodes in one batch."""

    mixed: bool = False
    """Simulate servers that decode while they read prompts, as vLLM does by default. Without it, decoding waits while
    prompts are read, as in sglang."""

    def applied_to(self, config: Config) -> Hardware:
        """Return the simulated servers. Raises ``ConfigError`` for an unknown size or GPU, or if weights do not fit."""
        if self.running < 1:
            raise ConfigError(f"--running {self.running}: give a number of sequences, 1 or more")
        tables: dict[Model, RouterTable | None] = {model: getattr(config.models, model) for model in _MODELS}
        default, target = ModelTable(model="", prompt="").in_flight, config.models.target
        stated = None if target is None else target.gather
        gather = (0.0 if self.mixed else PAUSING_GATHER) if stated is None else stated
        hardware = Hardware(
            placements={model: placed(getattr(self, model), self.gpu) for model in _MODELS},
            in_flight={model: table.in_flight if table else default for model, table in tables.items()},
            running=self.running,
            mixed=self.mixed,
            annotated=config.models.draft is not None and config.models.draft.annotate,
            gather=Gather(gather, SERVED_SHARE) if gather else None,
        )
        hardware.check()
        return hardware


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WorkloadOptions:
    """The synthetic problems, for a simulation without a recorded run."""

    problems: int = _STATED.problems
    """The number of problems. All of them are available from the beginning."""

    seed: int = 0
    """The seed of the lengths and of the rejected drafts."""

    steps: float = _STATED.steps.median
    """The median number of steps per problem (log-normal, σ = 0.7)."""

    step_tokens: float = _STATED.step_tokens.median
    """The median number of tokens per step (log-normal, σ = 0.8)."""

    question_tokens: float = _STATED.question_tokens.median
    """The median number of tokens per question, with its template (log-normal, σ = 0.5)."""

    def world(self) -> SyntheticWorkload:
        """Return the synthetic workload. Raises ``ConfigError`` for a number that is not above 0, or is infinite."""
        for name in ("problems", "steps", "step_tokens", "question_tokens"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name):g}: give a number above 0")
        return SyntheticWorkload(
            problems=self.problems,
            seed=self.seed,
            steps=_with_median(_STATED.steps, self.steps),
            step_tokens=_with_median(_STATED.step_tokens, self.step_tokens),
            question_tokens=_with_median(_STATED.question_tokens, self.question_tokens),
        )


def simulate_command(
    config: str | None = None,
    /,
    *,
    concurrency: str | None = None,
    acceptance: str | None = None,
    lookahead: str | None = None,
    block: str | None = None,
    verify: str | None = None,
    run_type: RunType | None = None,
    run: Path | None = None,
    hardware: HardwareOptions = HardwareOptions(),
    workload: WorkloadOptions = WorkloadOptions(),
    json: bool = False,
    debug: bool = False,
) -> int:
    """Estimate how long a run would take, and which server is the bottleneck, before you rent a GPU.

    The actors run in virtual time over simulated servers. The servers' speeds are derived from data sheets, not
    measured (docs/explanation/performance.md). Run type, limits, concurrency, drafting ahead and `in_flight` come from
    the configuration. The options give the sizes of the models and their GPUs. Several values, separated by commas,
    produce one row per combination.

    The time of a problem has two parts: what it would take on idle servers, and what it loses to the load of each
    server, by waiting and by slower decoding. The bottleneck is the server at which most time is lost. It is `steps` if
    the first part is half of the time or more. Then only faster models or GPUs help much, and higher concurrency costs
    little.

    Examples:

        arbiter simulate math500 --draft 1.5B --target 7B --gpu A100
        arbiter simulate math500 --target 70B@4xH100 --concurrency 1,64 --lookahead 0,1
        arbiter simulate --run runs/first --gpu L40S

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration. Optional with `--run`: the default is then the
        configuration of that run.
    concurrency
        The number of problems that are solved concurrently, or several such as `1,16,64`. Default: `limits.problems` of
        the configuration (64).
    acceptance
        The acceptance rate (share of steps kept from the draft), or several such as `0.6,0.8`. Default: 0.7. Not
        allowed with `--run`: a recorded run has its own.
    lookahead
        The number of steps drafted ahead, or several such as `0,1,auto`. Default: `lookahead` of the configuration (0).
    block
        The number of steps that are drafted and scored together, or several such as `1,4`. Above 1 `lookahead` must be
        0. Not allowed with `--run`. Default: `block` of the configuration (1).
    verify
        The mode of verified escalation, or several such as `off,on,auto`. Default: `verify` of the configuration
        (`auto`).
    run_type
        The run type to simulate. Default: `run_type` of the configuration (`router`).
    run
        The folder of a recorded run, `@last` or the beginning of its name (see `arbiter runs`). Its problems,
        steps, lengths and decisions replace the synthetic ones.
    json
        Print only the figures, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        folder = None if run is None else resolve(run, LOGGED)
        opened = None if folder is None else Run.open(folder)
        chosen = _config(config, folder, opened, run_type)
        if opened is not None:
            _check(opened, chosen, acceptance)
        cases = _cases(chosen, concurrency, acceptance, lookahead, block, verify, opened is not None)
        servers = hardware.applied_to(chosen)
        world = workload.world()
        recorded = None if opened is None else RecordedWorkload.open(opened)
        plan = CasePlan(chosen, servers, world, recorded)
        rows = _simulated(plan, cases)
        _print(rows, assumptions(plan, servers, recorded, rows), json)
        return 0

    return guarded(debug, action)


def _config(name: str | None, run: Path | None, opened: Run | None, run_type: RunType | None) -> Config:
    if name is None and run is None:
        raise ConfigError(f"no configuration is given: name a file, or a built-in one ({', '.join(built_in())})")
    if name is None and run is not None and opened is not None and run.is_dir():
        check_unchanged(run / "config.toml", load_config(str(run / "config.toml")), opened.started.identity)
    path = name or str((run if run and run.is_dir() else Path()) / "config.toml")
    return load_config(path, given(run_type=run_type))


def _check(run: Run, config: Config, acceptance: str | None) -> None:
    recorded = run.started.identity.get("run_type")
    if config.run_type != recorded:
        raise ConfigError(
            f"{run.path} was recorded with the run type {recorded!r} and has only its decisions: "
            f"{config.run_type!r} cannot be simulated from it; leave out --run-type or --run"
        )
    if acceptance is not None:
        raise ConfigError("--acceptance: a recorded run has its own acceptance rate; leave out --run or --acceptance")


def _cases(
    config: Config,
    concurrency: str | None,
    acceptance: str | None,
    lookahead: str | None,
    block: str | None,
    verify: str | None,
    is_recorded: bool,
) -> list[Case]:
    """Return all combinations; the last option varies fastest. Raises ``ConfigError`` naming a wrong option."""
    if acceptance is not None and config.run_type in ("draft", "target"):
        raise ConfigError(f"--acceptance: the run type {config.run_type!r} uses one model only; leave out --acceptance")
    has_rate = not is_recorded and config.run_type not in ("draft", "target")
    rates = _numbers("acceptance", acceptance or f"{_STATED.acceptance}", float, 0, 1) if has_rate else [None]
    concurrent = _numbers("concurrency", concurrency or f"{config.limits.problems}", int, 1, 100_000)
    ahead: list[Depth] = [_depth(part) for part in (lookahead or f"{config.lookahead}").split(",")]
    modes: list[Verify] = [_verify(part) for part in (verify or config.verify).split(",")]
    blocks = _numbers("block", block or f"{config.block}", int, 1, 64)
    if max(blocks) > 1 and ahead != [0]:
        raise ConfigError("--block: a block drafts steps ahead by itself; set --lookahead 0, or leave out --block")
    return [Case(*case) for case in product(concurrent, ahead, modes, rates, blocks)]


def _depth(text: str) -> Depth:
    return "auto" if text == "auto" else _numbers("lookahead", text, int, 0, 64)[0]


def _verify(text: str) -> Verify:
    for known in get_args(Verify):
        if text == known:
            return known
    raise ConfigError(f"--verify {text}: write {', '.join(get_args(Verify))}, or several separated by commas")


def _numbers(option: str, text: str, kind: Callable[[str], Number], low: float, high: float) -> list[Number]:
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(low <= number <= high for number in numbers):
        raise ConfigError(f"--{option} {text}: write numbers from {low:g} to {high:g}, separated by commas")
    return numbers


def _with_median(numbers: LogNormal, median: float) -> LogNormal:
    return msgspec.structs.replace(numbers, median=median)


def _simulated(plan: CasePlan, cases: list[Case]) -> list[SimulationResult]:
    """Return the results of all cases, with a progress bar on a terminal."""
    with progress_bar("simulating") as progress:
        task = progress.add_task("", total=plan.problems * len(cases))
        return [plan.simulate(case, lambda: progress.advance(task)) for case in cases]


def _print(rows: list[SimulationResult], assumed: list[str], as_json: bool) -> None:
    if as_json:
        write_json({"cases": rows, "assumptions": assumed})
        return
    for table in tables(rows):
        stdout.print(table)
    for line in assumed:
        stdout.print(line, highlight=False, markup=False, soft_wrap=True)
