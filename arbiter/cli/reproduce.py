"""``arbiter reproduce``: the paper's comparison of policies for any pair of models, with a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from arbiter.cli.collect import CollectOptions, collect_command
from arbiter.cli.console import INTERRUPTED, guarded, print_rows, stderr, stdout
from arbiter.cli.endings import say
from arbiter.cli.overrides import NOT_GIVEN, RunOverrides
from arbiter.cli.recovered_gap import show_recovery
from arbiter.cli.simulate import HardwareOptions
from arbiter.config.config import Config
from arbiter.log.event_lines import shown
from arbiter.protocols.errors import ConfigError
from arbiter.runs.finding import resolve
from arbiter.runs.folder import run_path
from arbiter.runs.progress import watcher_for
from arbiter.runs.reports.numbers import percent
from arbiter.runs.reports.tables import with_interval
from arbiter.sweep.points import run_types_of, values_of

if TYPE_CHECKING:
    from arbiter.evaluation.paper.paper_report import Reproduction
    from arbiter.evaluation.paper.pipeline import PaperRequest


_HARDWARE = HardwareOptions()
_TRAINING, _COLLECTED = "pocket-train:2600", 1000
_EACH, _FEWEST = 10, 100  # problems that are collected for each one to compare, and at least
_TRIAL = 200  # problems: with a smaller limit no ablation is trained by default


def reproduce_command(
    config: str,
    /,
    *,
    rows: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, show_default=False)] = (),
    acceptance: str = "0.3:0.9:0.1",
    run_types: str | None = None,
    thresholds: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    out: Path | None = None,
    resamples: int = 1000,
    ablation: Annotated[bool | None, Parameter(negative="--no-ablation")] = None,
    hardware: HardwareOptions = _HARDWARE,
    overrides: RunOverrides = NOT_GIVEN,
    debug: bool = False,
) -> int:
    """Repeat the paper's comparison of draft, target, random, confidence, rsd, router and oracle, in one sweep.

    The thresholds are quantiles of the scores of a collection's validation split, so that all run types have about the
    same acceptance rates. The report shows accuracy by acceptance rate and by seconds, paired differences at equal
    acceptance rates, CPT, APGR, PGR at equal shares of the target's tokens (docs/reference/gap-recovery.md), and the
    outcome of each step. It also shows how well the router's scores correlate with the advantage Δ on the test split.
    The paper's ablation trains variants of the router on the train split, and evaluates them. Use other problems for
    the comparison than those that were collected.

    Examples:

        arbiter reproduce pocket --limit 1000 --out runs/reproduction
        arbiter collect pocket --data pocket-train:7 --limit 2000 --out runs/collected
        arbiter reproduce pocket --rows runs/collected --limit 2000 --out runs/paper
        arbiter reproduce pocket --run-types glimpse,pomdp,trigger --limit 1000 --out runs/policies
        arbiter reproduce llama3-1b-8b --rows runs/numina --acceptance 0.5:0.9:0.1

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration (`pocket`). It names all models and the problems.
    rows
        The folders of collections of these models (`arbiter collect`). No problem may be in more than one of them.
        Default, for pocket problems only: collect problems of the pocket training split first, into the folder `rows`
        of `--out`. They are 1,000, or with a smaller `--limit` ten times as many as that, at least 100.
    acceptance
        The acceptance rates to compare at, as `START:END:STEP` or as a list such as `0.5,0.7,0.9`.
    run_types
        Further run types to compare with those of the paper, separated by commas: `glimpse`, `paced`, `pomdp`,
        `trigger` or `judge`. The table of `pomdp` is learned from the train split, as by `arbiter fit`.
    thresholds
        The thresholds of further run types, written as for `arbiter sweep`. Default: a stated list for `glimpse`,
        `paced`, `pomdp` and `trigger`, and the configured threshold for others.
    out
        The folder of the comparison. Default: a new folder under `runs/`. Results in it are reused, so the same command
        continues after Ctrl-C.
    resamples
        The number of resamples of the problems for the intervals.
    ablation
        Train and evaluate variants of the router's recipe; `--no-ablation` leaves them out. Needs the extra `train`,
        and the router's `arbiter.json`. Default: on, but off with a `--limit` below 200, whose figures are a trial.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        from arbiter.evaluation.paper.pipeline import PaperRequest
        from arbiter.training.training_data import read_rows

        chosen, folder = overrides.load(config), run_path(out, "reproduce")
        begun.append(folder)
        if not rows and (status := _collect(config, chosen, folder / "rows")):
            say(f"to continue with the comparison after it: the same command with --out {folder}")
            return status
        collected = tuple(resolve(path, ("collection",)) for path in rows) or (folder / "rows",)
        request = PaperRequest(
            title=Path(config).stem,
            config=chosen,
            data=" ".join(map(str, collected)),
            rows=[row for path in collected for row in read_rows(path)],
            acceptances=tuple(values_of(f"--acceptance {acceptance}", acceptance)),
            hardware=hardware.applied_to(chosen),
            run_types=() if run_types is None else run_types_of(run_types),
            thresholds=thresholds,
            ablation=trains_ablation(chosen, ablation),
            resamples=resamples,
        )
        return _reproduce(request, folder)

    begun: list[Path] = []
    return guarded(debug, action, lambda: _again(begun[0] if begun else out))


def _again(folder: Path | None) -> str:
    """Return how to continue after Ctrl-C. ``folder`` is None if nothing has begun."""
    return "the same command begins again" if folder is None else f"to resume: the same command with --out {folder}"


def trains_ablation(config: Config, ablation: bool | None) -> bool:
    """Return whether to train the variants of the ablation. A trial does so only if the option asks for it."""
    limit = config.data.limit
    if ablation is not None or limit is None or limit >= _TRIAL:
        return ablation is not False
    say(f"no ablation, because --limit {limit} is a trial; --ablation trains its variants")
    return False


def _collect(name: str, config: Config, folder: Path) -> int:
    """Collect pocket problems into ``folder`` unless it is complete, and return the exit status.

    Raises ``ConfigError`` if the problems are not pocket problems.
    """
    from arbiter.runs.collection import read_collection

    if config.data.source.partition(":")[0] not in ("pocket", "pocket-train"):
        how = f"arbiter collect {name} --data … --out runs/rows"
        raise ConfigError(f"--rows is missing: collect rows from other problems than those to compare: {how}")
    before = read_collection(folder)
    if before is not None and before.complete:
        return 0
    problems = problems_to_collect(config.data.limit)
    say(f"collecting the rows of {problems} problems; --rows uses a collection instead")
    return collect_command(name, options=CollectOptions(data=_TRAINING, limit=problems), out=folder)


def problems_to_collect(limit: int | None) -> int:
    """Return how many problems to collect for a comparison of ``limit`` problems; None is for all of the data."""
    return _COLLECTED if limit is None else max(_FEWEST, min(_COLLECTED, _EACH * limit))


def _reproduce(request: "PaperRequest", folder: Path) -> int:
    from arbiter.evaluation.paper.pipeline import reproduce

    with watcher_for(stderr) as watcher:
        found = reproduce(request, folder, watcher, shown(request.config.log.level, say))
    if found is None:
        say(_again(folder))
        return INTERRUPTED
    _show(found)
    say(f"the report is in {folder}: report.html, report.md, runs.csv, reproduction.json")
    return 0


def _show(found: "Reproduction") -> None:
    """Print the accuracies at equal acceptance rates, and the areas."""
    comparison = found.comparison
    stdout.print(f"accuracy by acceptance rate, {comparison.problems} problems", highlight=False)
    types = [curve.run_type for curve in comparison.curves]
    accuracies = zip(*([percent(each.value) for each in curve.accuracy] for curve in comparison.curves), strict=True)
    rates = map(percent, comparison.acceptances)
    print_rows([["acceptance", *types], *([rate, *row] for rate, row in zip(rates, accuracies, strict=True))])
    areas = [(curve.run_type, curve.area.value, curve.area.interval) for curve in comparison.curves]
    shares = [
        [name, percent(value) if interval is None else with_interval(value, interval)]
        for name, value, interval in areas
    ]
    print_rows([["run type", "share of the oracle's area"], *shares])
    show_recovery(comparison.recovery)
