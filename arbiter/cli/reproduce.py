"""``arbiter reproduce``: the paper's comparison of policies, for any pair of models, with its report."""

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
from arbiter.runs.folder import new_path
from arbiter.runs.progress import watcher_for
from arbiter.runs.reports.tables import percent, with_interval
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
    rows: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    acceptance: str = "0.3:0.9:0.1",
    out: Path | None = None,
    resamples: int = 1000,
    ablation: Annotated[bool, Parameter(negative="--no-ablation")] = True,
    hardware: HardwareOptions = _HARDWARE,
    overrides: RunOverrides = NOT_GIVEN,
    debug: bool = False,
) -> int:
    """Compare draft, target, random, confidence, rsd, router and oracle over the same problems, from one sweep.

    Thresholds are quantiles of the scores of a collected set's validation split, so that all run types are run at about
    the same acceptance rates. The report has accuracy against acceptance and against seconds, paired differences at the
    same acceptance rate, what became of each step, how well the router's scores follow the advantage on the set's
    test split, and the paper's ablation, for which routers are trained on its train split. The problems of the
    comparison should not be those that were collected.

    Examples:

        arbiter reproduce pocket --limit 1000 --out runs/reproduction
        arbiter collect pocket --data pocket-train:7 --limit 2000 --out runs/collected
        arbiter reproduce pocket --rows runs/collected --limit 2000 --out runs/reproduction
        arbiter reproduce llama3-1b-8b --rows runs/numina --acceptance 0.5:0.9:0.1

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in one (`pocket`): all models, and the problems.
    rows
        The folders of collected sets of these models (`arbiter collect`), of which no problem is in two. For pocket
        problems it may be left out: 1,000 of the training split are then collected first, into the folder `rows`.
    acceptance
        The acceptance rates, `START:END:STEP` or a list.
    out
        The folder of the comparison. By default a new one under `runs/`. What it has already is not made again, so that
        the same command goes on after Ctrl-C.
    resamples
        How many resamples of the problems the intervals are from.
    ablation
        Train and evaluate the variants of the router's recipe (`--no-ablation` leaves them out). It needs the extra
        `train`, and the router's own `arbiter.json`.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        from arbiter.evaluation.paper.pipeline import PaperRequest
        from arbiter.training.training_data import read_rows

        chosen, folder = overrides.load(config), out or new_path("reproduce")
        if not rows and (status := _collect(config, chosen, folder / "rows")):
            return status
        collected = rows or (folder / "rows",)
        asked = PaperRequest(
            title=Path(config).stem,
            config=chosen,
            data=" ".join(map(str, collected)),
            rows=[row for path in collected for row in read_rows(path)],
            acceptances=tuple(values_of(f"--acceptance {acceptance}", acceptance)),
            hardware=hardware.applied_to(chosen),
            ablation=ablation,
            resamples=resamples,
        )
        return _reproduce(asked, folder)

    return guarded(debug, action)


def _collect(name: str, config: Config, folder: Path) -> int:
    """Collect pocket problems into ``folder`` if it has not all of them; the exit status. Raises ``ConfigError``."""
    from arbiter.runs.collection import read_collection

    if not config.data.source.startswith("pocket"):
        how = f"arbiter collect {name} --data … --out runs/rows"
        raise ConfigError(f"--rows is missing: collect some of other problems than those that are compared: {how}")
    before = read_collection(folder)
    if before is not None and before.complete:
        return 0
    return collect_command(name, options=CollectOptions(data=_TRAINING, limit=_COLLECTED), out=folder)


def _reproduce(asked: "PaperRequest", folder: Path) -> int:
    from arbiter.evaluation.paper.pipeline import reproduce

    with watcher_for(stderr) as watcher:
        found = reproduce(asked, folder, watcher, shown(asked.config.log.level, _tell))
    if found is None:
        _tell(f"to go on with it, give the same command with --out {folder}")
        return INTERRUPTED
    _show(found)
    _tell(f"the report is in {folder}: report.html, report.md, runs.csv, reproduction.json")
    return 0


def _show(found: "Reproduction") -> None:
    """The headline: accuracy at the same acceptance rates, and areas."""
    comparison = found.comparison
    table = Table(box=SIMPLE_HEAD, title=f"accuracy at the same acceptance rate, {comparison.problems} problems")
    table.add_column("run type")
    for rate in comparison.acceptances:
        table.add_column(percent(rate), justify="right")
    table.add_column("share of the oracle's area", justify="right")
    for curve in comparison.curves:
        accuracies = [percent(each.value) for each in curve.accuracy]
        table.add_row(curve.run_type, *accuracies, with_interval(curve.area.value, curve.area.interval))
    stdout.print(table)


def _tell(line: str) -> None:
    stderr.print(line, highlight=False, markup=False, soft_wrap=True)
