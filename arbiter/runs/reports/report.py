"""Compare runs: read their folders, build one table, and warn where the runs are not comparable."""

from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from arbiter.config.config import Config
from arbiter.config.policy_tables import TABLES
from arbiter.config.serve_tables import SloTable
from arbiter.log.reader import LOG, has_log
from arbiter.log.run import Run
from arbiter.protocols.errors import ReportError, RunError
from arbiter.runs.answer_times import AnswerTimes, answer_times
from arbiter.runs.reports.gap_figures import ALONE, GapRecovery, OutcomesOfRun, gap_recovery
from arbiter.runs.reports.reported_run import ReportedRun, read_run
from arbiter.runs.reports.short_form import not_graded
from arbiter.runs.reports.stream_figures import HEADS, stream_rows
from arbiter.runs.reports.tables import ReportRow, as_csv, columns_for, markdown, markdown_table, ordered

PLOTS = {
    "accuracy.png": "Accuracy against acceptance rate",
    "target-tokens.png": "Accuracy against the target's tokens",
    "latency.png": "Latency",
    "tokens.png": "Tokens",
    "cost.png": "Cost",
}

# The keys of a model's table that change its answers. The other keys concern operation or price.
_OF_A_MODEL = ("model", "prompt", "tokenizer", "annotate", "dtype")
# "data" is not compared: the problems themselves are.
_NOT_COMPARED = ("run_type", "thresholds", "audit", "compare", "data", "models", "cpu_threads", "limits.problems")
# They decide what both models alone do.
_OF_THE_GAP = ("models.draft.", "models.target.", "sampling.", "limits.", "separator")
_OF_SPEED = ("limits.problems", "cpu_threads")
_NAMED = 3  # runs named per value of a difference


class Report(msgspec.Struct, frozen=True):
    """Runs in the order of their table, and warnings for their comparison.

    ``passed_over`` are the folders that were given and hold no run. ``recovery`` is set if the draft alone and the
    target alone are among the runs. ``times`` are those of the answers by run, if they were requested.
    """

    runs: list[ReportedRun]
    warnings: list[str]
    passed_over: list[Path] = []
    recovery: GapRecovery | None = None
    times: dict[str, AnswerTimes] = {}

    @property
    def entries(self) -> list[ReportRow]:
        return [ReportRow(run.name, run.summary, "" if run.state == "finished" else run.state) for run in self.runs]

    def to_json(self) -> bytes:
        """Return ``runs`` (with ``run``, ``state``, ``seed``, ``data``, ``summary``), ``warnings`` and ``recovery``.

        ``times`` is there if they were requested.
        """
        runs = [
            {
                "run": run.name,
                "state": run.state,
                "seed": run.config.seed,
                "data": run.config.data,
                "summary": run.summary,
            }
            for run in self.runs
        ]
        each = [{"run": name, **msgspec.structs.asdict(one)} for name, one in self.times.items()]
        times = {"times": each} if each else {}
        return msgspec.json.encode({"runs": runs, "warnings": self.warnings, "recovery": self.recovery, **times})

    def to_markdown(self, plots: Sequence[str] = (), no_plots: str | None = None) -> str:
        """Return the table, the warnings, and either links to ``plots`` or the reason why there are none."""
        parts = ["# Report", markdown(columns_for(self.entries), self.entries)]
        parts += recovery_parts(self.recovery)
        if self.times:
            parts += ["## Times of streamed answers", markdown_table(HEADS, stream_rows(self.times))]
        if self.warnings:
            parts += ["## Warnings", "\n".join(f"- {warning}" for warning in self.warnings)]
        parts += [f"![{PLOTS[name]}]({name})" for name in plots]
        if no_plots:
            parts.append(f"No plots: {no_plots}.")
        return "\n\n".join(parts) + "\n"


def report_on(folders: Sequence[Path], slo: SloTable | None = None) -> Report:
    """Return the report on the runs in ``folders``, without duplicates. Folders that hold no run are passed over.

    With ``slo``, which may state no bound, the report has the times of the answers from the logs.

    Raises ``RunError``, also if no folder holds a run.
    """
    if not folders:
        raise RunError("no run given: name one or more folders, as in `arbiter report runs/first runs/second`")
    among = _runs_among(folders)
    passed_over = [folder for folder in among if _holds_no_run(folder)]
    if len(passed_over) == len(among):
        passed_over = []  # reading the first one says what it lacks
    different = {folder.resolve(): folder for folder in among if folder not in passed_over}
    runs = {run.name: run for run in map(read_run, different.values())}
    in_order = [runs[entry.name] for entry in ordered(ReportRow(run.name, run.summary) for run in runs.values())]
    times = {} if slo is None else {run.name: _times(run, slo) for run in in_order}
    return Report(in_order, [*_of_each(in_order), *_of_all(in_order)], passed_over, _recovery(in_order), times)


def _times(run: ReportedRun, slo: SloTable) -> AnswerTimes:
    return answer_times(Run.open(run.name), slo, run.summary.wall_seconds)


def recovery_parts(recovery: GapRecovery | None) -> list[str]:
    """Return the part of a report in Markdown about the recovered gap; empty without both models alone."""
    if recovery is None:
        return []
    return ["## Recovered gap", recovery.text, *(markdown_table(heads, rows) for heads, *rows in recovery.tables)]


def _recovery(runs: Sequence[ReportedRun]) -> GapRecovery | None:
    """Return what the runs recover of the gap between both models alone; None if one of these is not among them."""
    if not set(ALONE) <= {run.summary.run_type for run in runs}:
        return None
    if len({run.questions for run in runs}) > 1:
        return GapRecovery(undefined="the runs have different problems")
    tables = [_compared(run.config) for run in runs]
    for key in sorted({key for table in tables for key in table if key.startswith(_OF_THE_GAP)} - {*_OF_SPEED}):
        if len({table[key] for table in tables if key in table}) > 1:
            return GapRecovery(undefined=f"the runs differ in {key}")
    return gap_recovery(
        [OutcomesOfRun(run.name, run.summary.run_type, run.summary.threshold, run.outcomes) for run in runs]
    )


def _runs_among(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders in ``paths``. A sweep folder is replaced by its runs.

    If ``paths`` has folders, its files are ignored: a pattern such as ``runs/sweep/*`` also matches files.
    """
    folders = [path for path in paths if path.is_dir()] or paths
    found: list[Path] = []
    for path in folders:
        is_sweep = (path / "sweep.json").is_file()
        runs = {run.parent for name in ("results.jsonl", f"{LOG}*") for run in path.glob(f"*/{name}")}
        found += sorted(runs) if is_sweep else [path]
    return found


def _holds_no_run(folder: Path) -> bool:
    return folder.is_dir() and not has_log(folder) and not (folder / "results.jsonl").exists()


def write_report(report: Report, folder: Path) -> str | None:
    """Write ``report.md``, ``report.csv`` and the plots into ``folder``.

    Return the reason if there are no plots, else None. Raises ``ReportError`` if the folder cannot be written.
    """
    from arbiter.runs.reports.plots import draw, why_not

    reason = why_not()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plots = [] if reason else draw(report.entries, folder)
        (folder / "report.md").write_text(report.to_markdown(plots, reason), encoding="utf-8")
        (folder / "report.csv").write_text(as_csv(report.entries), encoding="utf-8")
    except OSError as error:
        raise ReportError(f"cannot write the report into {folder}: {error.strerror}") from error
    return reason


def _of_each(runs: Iterable[ReportedRun]) -> list[str]:
    """Return the warnings that concern single runs."""
    warnings: list[str] = []
    for run in runs:
        found = run.summary
        if run.state == "interrupted":
            how = "was interrupted" if found.stopped is None else "stopped early"
            warnings.append(f"{run.name} {how}: its figures cover the {found.problems} problems that ended")
        if run.state == "unfinished":
            torn = " (without an incomplete last line)" if run.torn else ""
            warnings.append(
                f"{run.name} is unfinished: it is still in progress, or was killed. Its figures cover the stored "
                f"results{torn}; its wall time is not known"
            )
        if found.failed:
            warnings.append(
                f"{run.name}: {found.failed} of {found.decoded} failed; accuracy and latency do not include them"
            )
        if found.decoded > found.graded + found.failed:
            warnings.append(f"{run.name}: not in accuracy: {not_graded(found)}")
    return warnings


def _of_all(runs: Sequence[ReportedRun]) -> list[str]:
    """Return the warnings about differences that make the runs hard to compare."""
    warnings: list[str] = []
    if len({run.questions for run in runs}) > 1:
        common = len(frozenset[Hashable].intersection(*(run.questions for run in runs)))
        sets = [(_source(run), run.name) for run in runs]
        warnings.append(f"the runs have different problems; {common} are in all runs: {_grouped(sets)}")
    warnings += _of_times(runs)
    experiments = [_compared(run.config) for run in runs]
    for key in sorted({key for experiment in experiments for key in experiment}):
        values = [
            (experiment[key], run.name) for experiment, run in zip(experiments, runs, strict=True) if key in experiment
        ]
        if len({value for value, _ in values}) > 1:
            effect = ", so their latencies cannot be compared" if key in _OF_SPEED else ""
            warnings.append(f"the runs differ in {key}{effect}: {_grouped(values)}")
    return warnings


def _of_times(runs: Sequence[ReportedRun]) -> list[str]:
    simulated = [("simulated" if run.summary.simulated else "measured", run.name) for run in runs]
    if len(dict(simulated)) < 2:
        return []
    return [f"some latencies are measured, others are simulated (docs/how-to/sweep.md): {_grouped(simulated)}"]


def _source(run: ReportedRun) -> str:
    limit = run.config.data.limit
    return f"{len(run.questions)} of {run.config.data.source}" + (f" (limit {limit})" if limit else "")


def _grouped(values: Iterable[tuple[str, str]]) -> str:
    """Format each value with the runs that have it."""
    runs: dict[str, list[str]] = {}
    for value, run in values:
        runs.setdefault(value, []).append(run)
    named = {
        value: ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        for value, names in runs.items()
    }
    return "; ".join(f"{_short(value)} in {names}" for value, names in named.items())


def _compared(config: Config) -> dict[str, str]:
    """Return the configuration keys that compared runs should share, with their values as text."""
    tree: dict[str, Any] = msgspec.to_builtins(config)
    unread = (*_NOT_COMPARED, *(table for run_type, table in TABLES.items() if run_type != config.run_type))
    found = {key: value for key, value in _leaves(tree) if not key.startswith(unread) or key in _OF_SPEED}
    for name, called in msgspec.structs.replace(config, audit=0.0).called_tables().items():
        table: dict[str, Any] = msgspec.to_builtins(called) if called else {}
        found |= {f"models.{name}.{key}": table[key] for key in _OF_A_MODEL if key in table}
    return {key: "not set" if value is None else repr(value) for key, value in found.items()}


def _leaves(tree: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{above}{key}"
        leaves += _leaves(cast("dict[str, Any]", value), f"{name}.") if isinstance(value, dict) else [(name, value)]
    return leaves


def _short(text: str) -> str:
    """Shorten a long value to its beginning and its end."""
    return text if len(text) <= 60 else f"{text[:40]} … {text[-15:]}"
