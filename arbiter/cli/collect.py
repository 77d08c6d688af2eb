"""``arbiter collect``: training rows for a router."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import msgspec
from cyclopts import Parameter
from rich.table import Table

from arbiter.cli.console import INTERRUPTED, guarded, stderr, stdout
from arbiter.cli.overrides import configured, given
from arbiter.config.config import load_config
from arbiter.data.published import field_names
from arbiter.data.training_rows import TrainingRow
from arbiter.log.reader import log_path
from arbiter.protocols.errors import ConfigError
from arbiter.runs.bench import bench
from arbiter.runs.collection import (
    NAME,
    Collection,
    Counts,
    counted,
    imported,
    planned,
    problems_of,
    read_collection,
    write_collection,
)
from arbiter.runs.folder import check_run, new_path, read_records
from arbiter.runs.progress import watcher_for
from arbiter.runs.reports.tables import percent

_SHARE = 0.1  # of the problems, for validation and for test each


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CollectOptions:
    """What is collected."""

    data: str | None = None
    """Where the problems come from, as for `arbiter bench`."""

    limit: int | None = None
    """Take so many problems: the first ones, or with `--stratify` a sample."""

    stratify: str | None = None
    """Sample in proportion to the values of this field of the data (`source` in NuminaMath-CoT), by largest
    remainders."""

    samples: int | None = None
    """How many steps the target writes at each step; Δ is their mean. Needs a temperature above 0; the first one is
    the candidate that the solution may go on with."""

    temperature: float | None = None
    """How freely the models choose their tokens."""

    validation: float | None = None
    """The share of the problems that a training is watched on and calibrated with (0.1)."""

    test: float | None = None
    """The share of the problems that no training sees (0.1)."""

    seed: int | None = None
    """Decides the sample, the split and the noise. Each problem keeps its part, however many are collected."""

    concurrency: int | None = None
    """How many problems are under way at once."""

    def changes(self) -> dict[str, Any]:
        """The keys of the configuration that the options set."""
        fields = given(source=self.stratify)
        return given(
            run_type="generate",
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
    import_: Annotated[tuple[Path, ...], Parameter(name="--import", consume_multiple=True)] = (),
    fields: str = "",
    out: Path | None = None,
    resume: Path | None = None,
    retry_failed: bool = False,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Let draft and target both write every step, score them, and store a training row for each step.

    This is the run type `generate`: the folder is a run's, with `rows.jsonl` (docs/rows.md) and `collection.json` in
    it, and a collection that was interrupted is continued by `--resume`. Problems, not steps, are divided into
    training, validation and test. `arbiter train router --data FOLDER` is the next step.

    Examples:

        arbiter collect pocket --limit 500 --samples 4 --temperature 0.7 --out rows
        arbiter collect mine.toml --data AI-MO/NuminaMath-CoT:train --limit 30000 --stratify source --out rows
        arbiter collect --resume rows
        arbiter collect --import dump.jsonl --out rows

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in one (`pocket`), with a draft, a target and a PRM. With
        `--resume` it may be left out.
    import_
        No models: make rows of dumps in the layout of the published Arbitrage program (docs/rows.md).
    fields
        For `--import`, the names of fields that are called otherwise: `problem=text,draft_response=small`.
    out
        The collection's folder. By default a new one under `runs/`.
    resume
        The folder of a collection to continue.
    retry_failed
        Of a collection that is continued, solve the problems that failed once more.
    json
        Print `collection.json` on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        if import_:
            if resume is not None:
                raise ConfigError("--import makes a new collection: leave --resume out")
            folder = out or new_path("collection")
            router = None if config is None else load_config(config)
            shares = _share(options.validation), _share(options.test)
            collection = imported(import_, field_names(fields), router, options.seed or 0, *shares, folder)
            return _print_collection(collection, folder, json)
        name = configured(config, out, resume, log_path)
        return _collect(name, options, out or resume, resume is not None, retry_failed, json)

    return guarded(debug, action)


def _collect(
    name: str, options: CollectOptions, folder: Path | None, resumed: bool, retry_failed: bool, as_json: bool
) -> int:
    config = load_config(name, options.changes())
    before = read_collection(folder) if folder is not None and resumed else None
    if resumed and before is None:
        raise ConfigError(f"--resume {folder}: that is no collection, there is no {NAME} in it")
    plan = planned(
        config,
        options.stratify or (before.stratify if before else None),
        _share(options.validation, before.validation if before else _SHARE),
        _share(options.test, before.test if before else _SHARE),
    )
    problems = problems_of(config, plan)
    folder = folder or new_path("collection")
    check_run(config, problems, folder)
    write_collection(folder, plan)
    with watcher_for(stderr) as watcher:
        summary, _ = anyio.run(partial(bench, config, folder, watcher, None, retry_failed, problems))
    collection = counted(plan, read_records(folder / "rows.jsonl", TrainingRow), not summary.interrupted)
    write_collection(folder, collection)
    if summary.failed:
        stderr.print(f"{summary.failed} of {summary.problems} problems failed: try them again with --retry-failed")
    if not summary.interrupted:
        return _print_collection(collection, folder, as_json)
    stderr.print(f"to go on with it: arbiter collect --resume {folder}", highlight=False, soft_wrap=True)
    return INTERRUPTED


def _share(value: float | None, otherwise: float = _SHARE) -> float:
    return otherwise if value is None else value


def _print_collection(collection: Collection, folder: Path, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(msgspec.json.encode(collection).decode() + "\n")
    else:
        stdout.print(_table(collection))
    stderr.print(f"the rows are in {folder}", highlight=False, soft_wrap=True)
    return 0


def _table(collection: Collection) -> Table:
    """Problems and rows, by source and split, for people."""
    table = Table("source", title="training rows", title_justify="left")
    for split in collection.rows:
        table.add_column(f"{split}: problems", justify="right")
        table.add_column("rows", justify="right")
    for source in sorted({source for counts in collection.rows.values() for source in counts}):
        cells = [
            str(counts.get(split, {}).get(source, 0))
            for split in collection.rows
            for counts in (collection.problems, collection.rows)
        ]
        table.add_row(source or "–", *cells)
    table.add_section()
    sums = [_sum(counts, split) for split in collection.rows for counts in (collection.problems, collection.rows)]
    table.add_row("all", *map(str, sums))
    table.caption = f"target better (Δ > 0): {percent(collection.better)} of rows"
    return table


def _sum(counts: Counts, split: str) -> int:
    return sum(counts.get(split, {}).values())
