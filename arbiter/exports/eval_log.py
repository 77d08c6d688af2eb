"""A run as a log of inspect_ai (the extra ``inspect``; imported only when one is written).

A sample a problem and decoding, its score the grade, its transcript the steps and the requests made for them. What a
log holds is put together here and in the modules beside this one as plain values; inspect_ai checks and writes it.
"""

import shutil
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from statistics import NormalDist

# not in the development extra, since its pins are those of an application of its own
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
    """Write ``run`` as an ``.eval`` log, or as JSON, as the name of ``path`` ends.

    Raises ``RunError`` if the run's log is damaged, ``ReportError`` if the disk refuses.
    """
    log = EvalLog.model_validate(eval_log(run))  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    with replacing(path) as file, tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / f"log{path.suffix}"
        write_eval_log(log, whole)
        with whole.open("rb") as written:
            shutil.copyfileobj(written, file)


def eval_log(run: Run) -> Json:
    """The whole of it, its samples in the order in which they began. Raises ``RunError``."""
    models, grades = EvalModels(run.started.identity), run.grades()
    first, last, status = _extent(run)
    samples: dict[Key, Json] = {}
    results: list[Result] = []
    by_model, by_role = dict[str, Usage](), dict[str, Usage]()
    for history in run.problems():  # of a problem that was begun anew, the last
        grade = grades.get(history.key)
        samples[history.key] = sample(history, grade, models, first.run)
        _add(by_model, models.usage(history))
        _add(by_role, {role: counts.usage for role, counts in history.request_counts().items()})
        solution = history.solution()
        if solution is not None:
            judged = grade or Graded(right=None)
            results.append(Result(solution, Grade(judged.right, judged.answer, judged.reason)))
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
        "samples": sorted(samples.values(), key=lambda one: one["started_at"]),
    }


def _extent(run: Run) -> tuple[Event, Event, str]:
    """The first event and the last, and how the run ended; one that goes on, or was killed, is only started."""
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
    """Where the problems are from, as the configuration beside the log tells; else the name of the log's folder."""
    folder = log.absolute().parent
    try:
        told = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):  # it is a name alone: no reason to fail
        told = {}
    return str(told.get("data", {}).get("source") or folder.name)


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
                "scored_samples": figures.graded,
                "unscored_samples": figures.decoded - figures.graded,
                "metrics": metrics,
            }
        ],
    }


def _standard_error(interval: tuple[float, float] | None) -> float | None:
    """That of a normal estimate whose 95 % interval is as wide."""
    return None if interval is None else (interval[1] - interval[0]) / 2 / NormalDist().inv_cdf(0.975)
