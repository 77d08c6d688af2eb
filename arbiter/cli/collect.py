"""``arbiter collect``: collect training rows for a router."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.table import Table

from arbiter.cli.console import guarded, stderr, stdout
from arbiter.cli.endings import FailFast, Failures, continuing, failures_of, interrupted, say, stopped
from arbiter.cli.model_options import NO_MODELS, ModelOptions
from arbiter.cli.overrides import configured, given
from arbiter.cli.terminal import write_json
from arbiter.cli.worker_options import IN_THIS_PROCESS, WorkerOptions
from arbiter.config.config import load_config
from arbiter.config.run_tables import RunType
from arbiter.data.published import field_names
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import ConfigError
from arbiter.runs.baseline_runs import check_resumable
from arbiter.runs.bench import bench
from arbiter.runs.collection import (
    NAME,
    Collection,
    counted,
    imported,
    planned,
    problems_of,
    read_collection,
    write_collection,
)
from arbiter.runs.finding import resolve
from arbiter.runs.folder import check_run, read_records, run_path
from arbiter.runs.progress import watcher_for
from arbiter.runs.reports.numbers import NOTHING, percent
from arbiter.runs.rollouts import ROLLOUTS, check_rollouts, roll_out

_SHARE = 0.1  # default share of the problems, both for validation and for test


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CollectOptions:
    """The options of ``arbiter collect`` that decide which rows are collected."""

    data: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    """The source of the problems, written as for `arbiter bench`. Default: `data.source` of the configuration."""

    limit: int | None = None
    """The number of problems: the first ones, or with `--stratify` a sample. Default: `data.limit` of the
    configuration, or all problems."""

    stratify: str | None = None
    """Sample the problems in proportion to the values of this data field, for example `source` in NuminaMath-CoT.
    Counts are rounded by largest remainders. Default: no sampling."""

    samples: int | None = None
    """The number of candidates that the target writes at each step. The advantage Δ is the mean over them, and only the
    first of them can be kept as the step. More than 1 needs a temperature above 0. Default: `sampling.target_samples`
    of the configuration (1)."""

    temperature: float | None = None
    """The sampling temperature of draft and target. 0 is greedy decoding. Default: `sampling.temperature` of the
    configuration (0)."""

    validation: float | None = None
    """The share of the problems in the validation split, from 0 to 1. Training uses this split only to monitor and
    calibrate the router. Default: 0.1."""

    test: float | None = None
    """The share of the problems in the test split, from 0 to 1. No training uses it. Default: 0.1."""

    seed: int | None = None
    """The seed of the sample, the split and the sampling noise. A problem stays in its split, however many problems are
    collected. Default: `seed` of the configuration (0)."""

    concurrency: int | None = None
    """The number of problems that are solved concurrently. Default: `limits.problems` of the configuration (64)."""

    @property
    def run_type(self) -> RunType:
        """The run type of every collection."""
        return "generate"

    def changes(self) -> dict[str, Any]:
        """Return the configuration keys that the options set."""
        fields = given(source=self.stratify)
        return given(
            run_type=self.run_type,
            seed=self.seed,
            data=given(source=self.data, limit=self.limit, fields=fields),
            limits=given(problems=self.concurrency),
            sampling=given(target_samples=self.samples, temperature=self.temperature),
        )


_NOT_GIVEN = CollectOptions()


def collect_command(
    config: str | None = None,
    /,
    *,
    options: CollectOptions = _NOT_GIVEN,
    models: ModelOptions = NO_MODELS,
    workers: WorkerOptions = IN_THIS_PROCESS,
    import_: Annotated[tuple[Path, ...], Parameter(name="--import", consume_multiple=True, show_default=False)] = (),
    fields: Annotated[str, Parameter(show_default=False)] = "",
    rollouts: int | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    retry_failed: bool = False,
    fail_fast: FailFast = None,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Write every step with both draft and target, score both candidates, and store one training row per step.

    The command is a run of the type `generate`. Its run folder also holds `rows.jsonl` and `collection.json`
    (docs/how-to/collect-rows.md). `--resume` continues an interrupted collection. The splits train, validation and test
    divide problems, not steps. The next step is to train a router: `arbiter train router --data FOLDER`.

    Examples:

        arbiter collect pocket --limit 500 --samples 4 --temperature 0.7 --out rows
        arbiter collect mine.toml --data AI-MO/NuminaMath-CoT:train --limit 30000
        arbiter collect --resume rows
        arbiter collect --resume rows --rollouts 1
        arbiter collect --import dump.jsonl --out rows

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration (`pocket`), with a draft, a target and a PRM.
        Optional with `--draft`, `--target` and `--prm`, which name the models instead, and with `--resume`.
    import_
        Make rows from these dump files, without calling a model. The dumps have the layout of the published Arbitrage
        program (docs/how-to/collect-rows.md).
    fields
        With `--import`: other names of fields in the dumps, for example `problem=text,draft_response=small`. Default:
        the published names.
    out
        The folder of the collection. Default: a new folder under `runs/`.
    resume
        The folder of the collection to continue.
    retry_failed
        When continuing a collection, solve its failed problems again.
    fail_fast
        Stop early if the first 10 problems to end have all failed for one cause, for example a server that is down.
        Default: on for a new collection, off with `--resume`.
    rollouts
        After the rows, also find out what each step is worth for the answer. From each step, the draft alone solves the
        rest of the problem this many times: after its own step, and after the target's. `rollouts.jsonl` has the shares
        of right answers, and `arbiter train router --label answer` learns from them. More than 1 needs a temperature
        above 0. With `--resume`, only steps without values are solved. Default: no rollouts.
    json
        Print only the content of `collection.json` on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        if import_:
            if rollouts is not None:
                raise ConfigError("--import has no models to continue its steps with: leave out --rollouts")
            if resume is not None:
                raise ConfigError("--import makes a new collection and cannot resume one: leave out --resume")
            folder = run_path(out, "collection")
            router = None if config is None else load_config(config)
            shares = _share(options.validation), _share(options.test)
            collection = imported(import_, field_names(fields), router, options.seed or 0, *shares, folder)
            return _print_collection(collection, folder, json)
        resumed = None if resume is None else resolve(resume, ("collection",))
        name = configured(config, out, resumed, check_resumable, models, options)
        failures = failures_of(retry_failed, fail_fast, resumed)
        return _collect(name, options, workers, out or resumed, resumed is not None, failures, json, rollouts)

    return guarded(debug, action, continuing("collect", out, resume, ("collection",)))


def _collect(
    name: str | dict[str, Any],
    options: CollectOptions,
    workers: WorkerOptions,
    folder: Path | None,
    resumed: bool,
    failures: Failures,
    as_json: bool,
    rollouts: int | None,
) -> int:
    config = load_config(name, options.changes())
    if rollouts is not None:
        check_rollouts(config, rollouts)
    solver = workers.solver(config)
    before = read_collection(folder) if folder is not None and resumed else None
    if resumed and before is None:
        raise ConfigError(
            f"--resume {folder}: it holds no {NAME}, so it is not a collection; give a collection's folder"
        )
    plan = planned(
        config,
        options.stratify or (before.stratify if before else None),
        _share(options.validation, before.validation if before else _SHARE),
        _share(options.test, before.test if before else _SHARE),
    )
    problems = problems_of(config, plan)
    folder = run_path(folder, "collection")
    check_run(config, problems, folder)
    write_collection(folder, plan)
    with watcher_for(stderr) as watcher:
        run = partial(bench, config, folder, watcher, problems=problems, solver=solver, **failures._asdict())
        summary, _ = anyio.run(run)
    collection = counted(plan, read_records(folder / "rows.jsonl", TrainingRow), not summary.interrupted)
    write_collection(folder, collection)
    if summary.stopped is not None:
        return stopped(summary.stopped, "collect", folder)
    if summary.failed:
        again = f"to solve them again: arbiter collect --resume {folder} --retry-failed"
        say(f"{summary.failed} of {summary.problems} problems failed; {again}")
    if not summary.interrupted:
        if rollouts is not None:
            say(f"solving each problem from each of its steps, {rollouts} time{'s' if rollouts > 1 else ''}")
            added = anyio.run(roll_out, config, problems, folder, rollouts)
            say(f"the values of {added.values} steps were added to {folder / ROLLOUTS}")
            if added.failures:
                say(f"{len(added.failures)} problems have no values; the first: {added.failures[0]}")
        return _print_collection(collection, folder, as_json)
    return interrupted("collect", folder)


def _share(value: float | None, default: float = _SHARE) -> float:
    return default if value is None else value


def _print_collection(collection: Collection, folder: Path, as_json: bool) -> int:
    if as_json:
        write_json(collection)
    else:
        stdout.print(_table(collection))
        better = f"the target is better (Δ > 0) in {percent(collection.better)} of the rows"
        stdout.print(better, highlight=False, markup=False)
    say(f"the rows are in {folder}")
    say(f"to train a router on them: arbiter train router --data {folder} --base CHECKPOINT --out runs/trained")
    return 0


def _table(collection: Collection) -> Table:
    """Return a table of problems and rows: one row per split and source, without a source one row per split."""
    sources = sorted({source for counts in collection.rows.values() for source in counts})
    table = Table("split", *(["source"] if any(sources) else []), box=SIMPLE_HEAD)
    table.add_column("problems", justify="right")
    table.add_column("training rows", justify="right")
    for split in collection.rows:
        for source in sources:
            counted = (counts.get(split, {}).get(source, 0) for counts in (collection.problems, collection.rows))
            table.add_row(split, *([source or NOTHING] if any(sources) else []), *map(str, counted))
    table.add_section()
    sums = (sum(sum(split.values()) for split in counts.values()) for counts in (collection.problems, collection.rows))
    table.add_row("all", *([""] if any(sources) else []), *map(str, sums))
    return table
