"""``arbiter simulate``: how long a run would take on GPUs that nobody has rented yet."""

import sys
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
from arbiter.config.config import Config, built_in, load_config
from arbiter.config.model_tables import AnyModelTable, ModelTable
from arbiter.config.run_tables import RunType
from arbiter.log.run import Run
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Model
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
    """What the models stand on: each has a server of its own."""

    gpu: str = "H100"
    """The GPU of all models that name none: `A100`, `H100`, `H200` or `L40S`."""

    draft: str = "1.5B"
    """The draft model by its size, and where it stands: `1.5B`, `1.5B@A100`, or on several GPUs `70B@4xH100`. The sizes
    that are known are `1.5B`, `3B`, `7B`, `8B`, `32B`, `70B`, `PRM-1.5B` and `PRM-7B`."""

    target: str = "7B"
    """The target model, as `--draft`."""

    router: str = "PRM-1.5B"
    """The router, as `--draft`."""

    prm: str = "PRM-1.5B"
    """The process reward model, as `--draft`."""

    judge: str = "7B"
    """The judge, as `--draft`."""

    running: int = 64
    """How many sequences a server decodes together."""

    mixed: bool = False
    """Servers decode while they read prompts, as vLLM does by default; without, decoding waits, as in sglang."""

    def applied_to(self, config: Config) -> Hardware:
        """The servers. Raises ``ConfigError`` for what is not known, or does not fit."""
        if self.running < 1:
            raise ConfigError(f"--running must be 1 or more, and it is {self.running}")
        tables: dict[Model, AnyModelTable | None] = {model: getattr(config.models, model) for model in _MODELS}
        default = ModelTable(model="", prompt="").in_flight
        hardware = Hardware(
            placements={model: placed(getattr(self, model), self.gpu) for model in _MODELS},
            in_flight={model: table.in_flight if table else default for model, table in tables.items()},
            running=self.running,
            mixed=self.mixed,
            annotated=config.models.draft is not None and config.models.draft.annotate,
        )
        hardware.check()
        return hardware


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WorkloadOptions:
    """The problems, where they are not those of a recorded run."""

    problems: int = _STATED.problems
    """How many problems there are; all of them are there at the beginning."""

    seed: int = 0
    """Decides lengths and rejections."""

    steps: float = _STATED.steps.median
    """The median number of steps of a problem; some have many more (log-normal, σ = 0.7)."""

    step_tokens: float = _STATED.step_tokens.median
    """The median number of tokens of a step (log-normal, σ = 0.8)."""

    question_tokens: float = _STATED.question_tokens.median
    """The median number of tokens of a question with its template (log-normal, σ = 0.5)."""

    def world(self) -> SyntheticWorkload:
        """The stated problems. Raises ``ConfigError`` for a number that none can have."""
        for name in ("problems", "steps", "step_tokens", "question_tokens"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"--{name.replace('_', '-')} must be more than 0, and it is {getattr(self, name):g}")
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
    verify: str | None = None,
    run_type: RunType | None = None,
    run: Path | None = None,
    hardware: HardwareOptions = HardwareOptions(),
    workload: WorkloadOptions = WorkloadOptions(),
    json: bool = False,
    debug: bool = False,
) -> int:
    """How long a run would take, and on which server it waits, before any GPU is rented.

    The actors work in virtual time over simulated servers (docs/performance.md), whose speeds follow from data sheets
    and not from measurements. Run type, limits, concurrency, look-ahead and `in_flight` are those of the configuration;
    models and GPUs are given here. Several values, with commas between them, make a row of each combination.

    A problem's time is its own, as on idle servers, or lost to the load of a server: waiting there, and being slowed by
    others. The bottleneck is the server at which most is lost; or `steps`, where half of the time or more is the
    problems' own. Then only faster models or GPUs would help much, and more problems at once cost little.

    Examples:

        arbiter simulate math500 --draft 1.5B --target 7B --gpu A100
        arbiter simulate math500 --target 70B@4xH100 --concurrency 1,16,64,256 --acceptance 0.6,0.8 --lookahead 0,1
        arbiter simulate --run runs/first --gpu L40S

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in one. With `--run` it may be left out: it is then the run's own.
    concurrency
        Numbers of problems in the ring at once, such as `1,16,64`.
    acceptance
        Shares of steps that are kept from the draft, such as `0.6,0.8`; 0.7 if it is not given. A recorded run has its
        own.
    lookahead
        Numbers of steps drafted ahead, such as `0,1,auto`.
    verify
        Whether the target is shown rejected drafts, such as `off,on,auto`.
    run_type
        Another policy than the configuration's.
    run
        The folder of a recorded run: its problems, steps, lengths and decisions take the place of the stated ones.
    json
        Print the figures as JSON on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        opened = None if run is None else Run.open(run)
        chosen = _config(config, run, run_type)
        if opened is not None:
            _check(opened, chosen, acceptance)
        cases = _cases(chosen, concurrency, acceptance, lookahead, verify, opened is not None)
        servers = hardware.applied_to(chosen)
        world = workload.world()
        recorded = None if opened is None else RecordedWorkload.open(opened)
        plan = CasePlan(chosen, servers, world, recorded)
        rows = _simulated(plan, cases)
        _tell(rows, assumptions(plan, servers, recorded, rows), json)
        return 0

    return guarded(debug, action)


def _config(name: str | None, run: Path | None, run_type: RunType | None) -> Config:
    if name is None and run is None:
        raise ConfigError(f"name a configuration: a file, or a built-in one ({', '.join(built_in())})")
    path = name or str((run if run and run.is_dir() else Path()) / "config.toml")
    return load_config(path, given(run_type=run_type))


def _check(run: Run, config: Config, acceptance: str | None) -> None:
    recorded = run.started.identity.get("run_type")
    if config.run_type != recorded:
        raise ConfigError(
            f"{run.path} was recorded with the run type {recorded!r}, which has its decisions; "
            f"{config.run_type!r} cannot be simulated from it"
        )
    if acceptance is not None:
        raise ConfigError("--acceptance: a recorded run has its own; leave one of --run and --acceptance out")


def _cases(
    config: Config,
    concurrency: str | None,
    acceptance: str | None,
    lookahead: str | None,
    verify: str | None,
    is_recorded: bool,
) -> list[Case]:
    """Each combination, the last option the fastest to change. Raises ``ConfigError`` naming the option."""
    if acceptance is not None and config.run_type in ("draft", "target"):
        raise ConfigError(f"--acceptance: a run of the type {config.run_type!r} asks one model alone")
    has_rate = not is_recorded and config.run_type not in ("draft", "target")
    rates = _numbers("acceptance", acceptance or f"{_STATED.acceptance}", float, 0, 1) if has_rate else [None]
    at_once = _numbers("concurrency", concurrency or f"{config.limits.problems}", int, 1, 100_000)
    ahead: list[Depth] = [_depth(part) for part in (lookahead or f"{config.lookahead}").split(",")]
    shown: list[Verify] = [_verify(part) for part in (verify or config.verify).split(",")]
    return [
        Case(problems, depth, showing, rate) for problems, depth, showing, rate in product(at_once, ahead, shown, rates)
    ]


def _depth(text: str) -> Depth:
    return "auto" if text == "auto" else _numbers("lookahead", text, int, 0, 64)[0]


def _verify(text: str) -> Verify:
    for known in get_args(Verify):
        if text == known:
            return known
    raise ConfigError(f"--verify {text}: write {', '.join(get_args(Verify))}, or several with commas between them")


def _numbers(option: str, text: str, kind: Callable[[str], Number], low: float, high: float) -> list[Number]:
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(low <= number <= high for number in numbers):
        raise ConfigError(f"--{option} {text}: write numbers from {low:g} to {high:g}, with commas between them")
    return numbers


def _with_median(numbers: LogNormal, median: float) -> LogNormal:
    return msgspec.structs.replace(numbers, median=median)


def _simulated(plan: CasePlan, cases: list[Case]) -> list[SimulationResult]:
    """The figures of all cases; a line moves meanwhile, on a terminal."""
    with progress_bar("simulating") as progress:
        task = progress.add_task("", total=plan.problems * len(cases))
        return [plan.simulate(case, lambda: progress.advance(task)) for case in cases]


def _tell(rows: list[SimulationResult], assumed: list[str], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode({"cases": rows, "assumptions": assumed}).decode() + "\n")
        return
    for table in tables(rows):
        stdout.print(table)
    for line in assumed:
        stdout.print(line, highlight=False, markup=False, soft_wrap=True)
