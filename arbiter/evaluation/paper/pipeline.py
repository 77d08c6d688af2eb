"""The whole comparison: thresholds from a collection, one sweep over all run types, figures, ablation, report.

Needs the extra ``train``.
"""

from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec
import numpy as np

from arbiter.config.config import Config
from arbiter.config.model_tables import InProcessTable
from arbiter.config.run_tables import RunType
from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.checkpoints import RouterCheckpoint
from arbiter.evaluation.evaluate import evaluate, rows_of
from arbiter.evaluation.paper.ablation import Ablated, ablate
from arbiter.evaluation.paper.comparison import Ran, compare
from arbiter.evaluation.paper.document import markdown, page
from arbiter.evaluation.paper.latency import seconds_alone
from arbiter.evaluation.paper.paper_plots import draw
from arbiter.evaluation.paper.paper_report import Reproduction, blocks, table_csv
from arbiter.evaluation.paper.planned_runs import (
    further_points,
    points,
    quantile_thresholds,
    with_learned_steps,
)
from arbiter.evaluation.paper.router_scores import predicted
from arbiter.evaluation.scores import advantages
from arbiter.log.writer import Show
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.runs.bench import Watcher
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.folder import read_results
from arbiter.runs.reports.plots import why_not
from arbiter.simulation.study import Hardware
from arbiter.sweep.points import SweepPoint
from arbiter.sweep.sweep import SweepRequest, sweep

TIMED = 200
"""The number of problems whose seconds are simulated on given hardware."""

FILE = "reproduction.json"


class PaperRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The input of a reproduction.

    - ``config``: models and problems. ``title``: its name in the report.
    - ``rows``: the rows of the collection ``data``. The validation split sets the thresholds. The test split gives the
      router's figures. The train split is for the ``ablation``.
    - ``run_types``: further run types beside those of the paper, with their ``thresholds`` as for a sweep.
    - ``acceptances``: the acceptance rates, 0 to 1, for which runs are planned and at which they are compared.
    """

    title: str
    config: Config
    data: str
    rows: Sequence[TrainingRow]
    acceptances: Sequence[float]
    hardware: Hardware
    run_types: Sequence[RunType] = ()
    thresholds: Sequence[str] = ()
    ablation: bool = True
    resamples: int = 1000
    seed: int = 0


def reproduce(request: PaperRequest, out: Path, watcher: Watcher, show: Show | None = None) -> Reproduction | None:
    """Run the comparison in the folder ``out`` and write its report there. Return None if a signal ended it early.

    Parts that ``out`` already holds are not repeated. Do not call it inside an event loop. Raises ``ConfigError``,
    ``DataError``, ``BackendError`` or ``RunError``.
    """
    _check(request)
    audited, further = _further(request)
    watcher.notice("scoring the collected steps")
    scored = _Scored(request)
    rows = rows_of(request.rows, "validation", request.data)
    thresholds = quantile_thresholds(rows, advantages(rows), np.array(scored.of(rows)), request.acceptances)
    planned = list({point.name: point for point in (*points(audited, thresholds), *further)}.values())
    swept, folder = sweep(SweepRequest(audited, planned), out / "sweep", watcher, show)
    if swept.interrupted:
        return None
    watcher.notice(f"simulating the latencies of {len(planned)} runs")
    timed, runs = _runs(request, planned, folder)
    watcher.notice("comparing the runs")
    comparison = compare(runs, request.acceptances, request.resamples, request.seed)
    router = RouterCheckpoint(scored.name, scored.predict)
    evaluation = evaluate(request.rows, request.data, "test", router, request.resamples, request.seed)
    found = Reproduction(
        title=request.title,
        comparison=comparison,
        evaluation=evaluation,
        ablation=_ablation(request, out / "ablation", watcher),
        hardware=_hardware(request) if timed else (),
        timed=timed,
    )
    write(found, out)
    return found


def write(found: Reproduction, out: Path) -> None:
    """Write ``reproduction.json``, ``runs.csv``, the plots, ``report.md`` and ``report.html``. Raises ``RunError``."""
    try:
        pictures = [] if why_not() else draw(found.comparison, out)
        parts = blocks(found, pictures)
        shown = page(parts, out)
    except OSError as error:
        raise RunError(f"cannot write the report into {out}: {error.strerror}") from error
    replace_file(out / FILE, msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    replace_file(out / "runs.csv", table_csv(found.comparison).encode())
    replace_file(out / "report.md", markdown(parts).encode())
    replace_file(out / "report.html", shown.encode())


def _further(request: PaperRequest) -> tuple[Config, list[SweepPoint]]:
    """Return the configuration of all runs, and the runs of further run types. What they learn is in it."""
    audited = msgspec.structs.replace(request.config, audit=1.0)
    further_points(audited, request.run_types, request.thresholds)  # a wrong option is refused before rows are
    train = [row for row in request.rows if row.split == "train"]
    learned = with_learned_steps(audited, train, request.run_types)
    return learned, further_points(learned, request.run_types, request.thresholds)


class _Scored:
    """The configured router's ŷ of collected steps. Each step is scored once."""

    def __init__(self, request: PaperRequest) -> None:
        table = request.config.models.router
        if table is None:
            raise ConfigError("the comparison needs a router, but none is configured: add a table [models.router]")
        self.name = table.model
        rows = [row for row in request.rows if row.split != "train"]
        values = anyio.run(
            predicted, table, rows, request.config.separator, request.config.cpu_threads, request.config.models.draft
        )
        self._found = {_key(row): value for row, value in zip(rows, values, strict=True)}

    def of(self, rows: Sequence[TrainingRow]) -> list[float]:
        return [self._found[_key(row)] for row in rows]

    def predict(self, rows: Sequence[TrainingRow]) -> list[list[float]]:
        return [[value] for value in self.of(rows)]


def _key(row: TrainingRow) -> tuple[str, int, int]:
    return row.problem, row.sample, row.step


def _hardware(request: PaperRequest) -> tuple[tuple[str, str], ...]:
    """Return the simulated hardware of each model that any of the runs calls."""
    called = ("draft", "target", "router", "prm")
    return tuple((model, str(where)) for model, where in request.hardware.placements.items() if model in called)


def _check(request: PaperRequest) -> None:
    """Raise ``ConfigError`` for a wrong request, before any model is called."""
    if request.config.models.targets:
        raise ConfigError("the comparison needs one target, but several are configured: use [models.target] alone")
    if request.config.step_offsets:
        raise ConfigError(
            "step_offsets: thresholds are quantiles of the scores of all steps here: leave step_offsets out, and "
            "compare with a sweep"
        )
    if not all(0 < rate < 1 for rate in request.acceptances):
        raise ConfigError("acceptance rates must be above 0 and below 1: those ends are the target and the draft alone")
    request.hardware.check()


def _runs(request: PaperRequest, planned: Sequence[SweepPoint], folder: Path) -> tuple[int, list[Ran]]:
    """Return the number of problems whose seconds were simulated, and the runs with their results.

    Nothing is simulated if draft or target is behind a server: the times of its requests are then real.
    """
    results = {point.name: read_results(folder / point.name / "results.jsonl")[0] for point in planned}
    models = request.config.models
    local = isinstance(models.draft, InProcessTable) and isinstance(models.target, InProcessTable)
    first = list(dict.fromkeys(result.solution.problem for result in results[planned[0].name]))
    some = sorted(first)[:TIMED] if local else []
    verify = request.config.verify
    return len(some), [
        Ran(
            point.name,
            point.config.run_type,
            point.config.threshold,
            results[point.name],
            seconds_alone(folder / point.name, frozenset(some), request.hardware, verify) if some else None,
        )
        for point in planned
    ]


def _ablation(request: PaperRequest, folder: Path, watcher: Watcher) -> tuple[Ablated, ...]:
    router = request.config.models.router
    if not request.ablation or not isinstance(router, InProcessTable):
        return ()
    notice = watcher.notice
    return tuple(ablate(request.rows, request.data, router.model, folder, notice, request.resamples, request.seed))
