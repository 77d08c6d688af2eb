"""Export a run as a log of inspect_ai (the extra ``inspect``; imported only to write such a log).

Each sample of each problem becomes a sample of the log. Its score is the grade; its transcript has the steps and their
requests. This module and the ``eval_`` modules next to it build the log from plain values; inspect_ai validates and
writes it.
"""

import shutil
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from statistics import NormalDist

# not in the development extra, because its pinned dependencies are those of a separate application
from inspect_ai.log import EvalLog, write_eval_log  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

from arbiter.exports.contents import summary
from arbiter.exports.eval_sample import SCORER, sample
from arbiter.exports.eval_usage import EvalModels, Json, identifier, known, moment, usages
from arbiter.exports.files import replacing
from arbiter.grading import Grade
from arbiter.log.history import Key
from arbiter.log.run import Run
from arbiter.protocols.events import Event, Graded, RunEnded, RunStarted
from arbiter.protocols.records import Usage
from arbiter.runs.results import Result, Summary


def write_eval(run: Run, path: Path) -> None:
    """Write ``run`` to ``path``, as an ``.eval`` log or as JSON, depending on the suffix of ``path``.

    Raises ``RunError`` if the run's log is damaged, ``ReportError`` if the file cannot be written.
    """
    log = EvalLog.model_validate(eval_log(run))  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    with replacing(path) as file, tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / f"log{path.suffix}"
        write_eval_log(log, whole)
        with whole.open("rb") as written:
            shutil.copyfileobj(written, file)


def eval_log(run: Run) -> Json:
    """Return the log of inspect_ai as plain values, with its samples ordered by start.

    Raises ``RunError`` if the run's log is damaged.
    """
    models, grades = EvalModels(run.started.identity), run.grades()
    first, last, status = _extent(run)
    samples: dict[Key, Json] = {}
    results: list[Result] = []
    by_model, by_role = dict[str, Usage](), dict[str, Usage]()
    for history in run.problems():  # a problem that was started again is there as it was solved last
        grade = grades.get(history.key)
        samples[history.key] = sample(history, grade, models, first.run)
        _add(by_model, models.usage(history))
        _add(by_role, {role: counts.usage for role, counts in history.request_counts().items()})
        solution = history.solution()
        if solution is not None:
            graded = grade or Graded(right=None)
            results.append(
                Result(solution, Grade.recorded(graded), grader=graded.grader, grader_name=graded.grader_name)
            )
    figures = summary(run, results, last.mono - first.mono)
    return {
        "status": status,
        "eval": _spec(run, first, models, figures),
        "plan": {"name": "arbiter", "steps": [{"solver": models.run_name, "params": models.policy}]},
        "results": _results(run, figures),
        "stats": {
            "started_at": moment(first.wall),
            "completed_at": "" if status == "started" else moment(last.wall),
            "model_usage": usages(by_model),
            "role_usage": usages(by_role),
        },
        "samples": sorted(samples.values(), key=lambda value: value["started_at"]),
    }


def _extent(run: Run) -> tuple[Event, Event, str]:
    """Return the first event, the last event, and the run's status: ``started`` if it is running or was killed."""
    log = run.events()
    first = last = next(log)
    status = "started"
    for last in log:
        match last.payload:
            case RunStarted():
                status = "started"
            case RunEnded(interrupted=interrupted):
                status = "cancelled" if interrupted else "success"
            case _:
                pass
    return first, last, status


def _add(whole: dict[str, Usage], part: Iterable[tuple[str, Usage]] | dict[str, Usage]) -> None:
    for name, usage in dict(part).items():
        whole[name] = whole.get(name, Usage()) + usage


def _spec(run: Run, first: Event, models: EvalModels, figures: Summary) -> Json:
    identity, started = run.started.identity, run.started
    source = _source(run.path)
    return {
        "eval_id": identifier(first.run, first.wall),
        "run_id": first.run,
        "created": moment(first.wall),
        "task": source,
        "task_id": started.digest,
        "task_args": {key: value for key, value in identity.items() if not key.startswith("models.")},
        "dataset": known(name=source, samples=identity.get("data.problems")),
        "model": models.run_name,
        "model_args": {key: value for key, value in identity.items() if key.startswith("models.")},
        "model_roles": {role: {"model": name} for role, name in models.names.items()},
        "model_generate_config": models.sampling,
        "config": {"epochs": identity.get("sampling.samples", 1), "epochs_reducer": ["mean"]},
        "packages": started.versions,
        "metadata": known(
            acceptance=figures.acceptance_rate, record=started.record, shared_answers=run.is_shared or None
        ),
    }


def _source(log: Path) -> str:
    """Return ``data.source`` of the configuration in the log's folder, or the folder's name if it is not there."""
    folder = log.absolute().parent
    try:
        config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):  # only a name: no reason to fail
        config = {}
    return str(config.get("data", {}).get("source") or folder.name)


def _results(run: Run, figures: Summary) -> Json:
    planned = run.started.identity.get("data.problems", figures.problems) * figures.samples
    values = known(accuracy=figures.accuracy, stderr=_standard_error(figures.accuracy_interval))
    metrics: dict[str, Json] = {name: {"name": name, "value": value} for name, value in values.items()}
    if figures.accuracy_interval is not None:
        metrics["accuracy"]["metadata"] = {"interval": list(figures.accuracy_interval)}
    return {
        "total_samples": planned,
        "completed_samples": figures.decoded - figures.failed,
        "scores": [
            {
                "name": SCORER,
                "scorer": SCORER,
                "params": known(grader=figures.grader or None),
                "scored_samples": figures.graded,
                "unscored_samples": figures.decoded - figures.graded,
                "metrics": metrics,
            }
        ],
    }


def _standard_error(interval: tuple[float, float] | None) -> float | None:
    """Return the standard error of a normal estimate with a 95 % interval of the same width."""
    return None if interval is None else (interval[1] - interval[0]) / 2 / NormalDist().inv_cdf(0.975)
