"""``arbiter reproduce``: the paper's comparison of policies for any pair of models, with a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.table import Table

from arbiter.cli.collect import CollectOptions, collect_command
from arbiter.cli.console import INTERRUPTED, guarded, stderr, stdout
from arbiter.cli.overrides import NOT_GIVEN, RunOverrides
from arbiter.cli.simulate import HardwareOptions
from arbiter.config.config import Config
from arbiter.log.event_lines import shown
from arbiter.protocols.errors import ConfigError
from arbiter.runs.finding import resolve
from arbiter.runs.folder import new_path
from arbiter.runs.progress import watcher_for
from arbiter.runs.reports.numbers import percent
from arbiter.runs.reports.tables import with_interval
from arbiter.sweep.points import values_of

if TYPE_CHECKING:
    from arbiter.evaluation.paper.paper_report import Reproduction
    from arbiter.evaluation.paper.pipeline import PaperRequest


_HARDWARE = HardwareOptions()
_TRAINING, _COLLECTED = "pocket-train:2600", 1000


def reproduce_command(
    config: str,
    /,
    *,
    rows: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, show_default=False)] = (),
    acceptance: str = "0.3:0.9:0.1",
    out: Path | None = None,
    resamples: int = 1000,
    ablation: Annotated[bool, Parameter(negative="--no-ablation")] = True,
    hardware: HardwareOptions = _HARDWARE,
    overrides: RunOverrides = NOT_GIVEN,
    debug: bool = False,
) -> int:
    """Repeat the paper's comparison of draft, target, random, confidence, rsd, router and oracle, in one sweep.

    The thresholds are quantiles of the scores of a collection's validation split, so that all run types have about the
    same acceptance rates. The report shows accuracy by acceptance rate and by seconds, paired differences at equal
    acceptance rates, and the outcome of each step. It also shows how well the router's scores correlate with the
    advantage Δ on the test split. The paper's ablation trains variants of the router on the train split, and evaluates
    them. Use other problems for the comparison than those that were collected.

    Examples:

        arbiter reproduce pocket --limit 1000 --out runs/reproduction
        arbiter collect pocket --data pocket-train:7 --limit 2000 --out runs/collected
        arbiter reproduce pocket --rows runs/collected --limit 2000 --out runs/paper
        arbiter reproduce llama3-1b-8b --rows runs/numina --acceptance 0.5:0.9:0.1

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration (`pocket`). It names all models and the problems.
    rows
        The folders of collections of these models (`arbiter collect`). No problem may be in more than one of them.
        Default, for pocket problems only: collect 1,000 problems of the pocket training split first, into the folder
        `rows` of `--out`.
    acceptance
        The acceptance rates to compare at, as `START:END:STEP` or as a list such as `0.5,0.7,0.9`.
    out
        The folder of the comparison. Default: a new folder under `runs/`. Results in it are reused, so the same command
        continues after Ctrl-C.
    resamples
        The number of resamples of the problems for the intervals.
    ablation
        Train and evaluate variants of the router's recipe; `--no-ablation` leaves them out. Needs the extra `train`,
        and the router's `arbiter.json`.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        from arbiter.evaluation.paper.pipeline import PaperRequest
        from arbiter.training.training_data import read_rows

        chosen, folder = overrides.load(config), out or new_path("reproduce")
        if not rows and (status := _collect(config, chosen, folder / "rows")):
            return status
        collected = tuple(resolve(path, ("collection",)) for path in rows) or (folder / "rows",)
        request = PaperRequest(
            title=Path(config).stem,
            config=chosen,
            data=" ".join(map(str, collected)),
            rows=[row for path in collected for row in read_rows(path)],
            acceptances=tuple(values_of(f"--acceptance {acceptance}", acceptance)),
            hardware=hardware.applied_to(chosen),
            ablation=ablation,
            resamples=resamples,
        )
        return _reproduce(request, folder)

    return guarded(debug, action)


def _collect(name: str, config: Config, folder: Path) -> int:
    """Collect pocket problems into ``folder`` unless it is complete, and return the exit status.

    Raises ``ConfigError`` if the problems are not pocket problems.
    """
    from arbiter.runs.collection import read_collection

    if not config.data.source.startswith("pocket"):
        how = f"arbiter collect {name} --data … --out runs/rows"
        raise ConfigError(f"--rows is missing: collect rows from other problems than those to compare: {how}")
    before = read_collection(folder)
    if before is not None and before.complete:
        return 0
    return collect_command(name, options=CollectOptions(data=_TRAINING, limit=_COLLECTED), out=folder)


def _reproduce(request: "PaperRequest", folder: Path) -> int:
    from arbiter.evaluation.paper.pipeline import reproduce

    with watcher_for(stderr) as watcher:
        found = reproduce(request, folder, watcher, shown(request.config.log.level, _print))
    if found is None:
        _print(f"to resume: give the same command with --out {folder}")
        return INTERRUPTED
    _show(found)
    _print(f"the report is in {folder}: report.html, report.md, runs.csv, reproduction.json")
    return 0


def _show(found: "Reproduction") -> None:
    """Print the main table: accuracy at equal acceptance rates, and areas."""
    comparison = found.comparison
    table = Table(box=SIMPLE_HEAD, title=f"accuracy by acceptance rate, {comparison.problems} problems")
    table.add_column("run type")
    for rate in comparison.acceptances:
        table.add_column(percent(rate), justify="right")
    table.add_column("share of the oracle's area", justify="right")
    for curve in comparison.curves:
        accuracies = [percent(each.value) for each in curve.accuracy]
        table.add_row(curve.run_type, *accuracies, with_interval(curve.area.value, curve.area.interval))
    stdout.print(table)


def _print(line: str) -> None:
    stderr.print(line, highlight=False, markup=False, soft_wrap=True)
