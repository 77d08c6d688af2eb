"""The steps in a sample of inspect_ai's log, tested without inspect_ai."""

from collections.abc import Callable, Iterator
from typing import Any

from arbiter.data import Problem
from arbiter.exports.eval_sample import sample
from arbiter.exports.eval_usage import EvalModels
from arbiter.log.history import ProblemHistory
from arbiter.log.run import Run

Record = Callable[..., Run]


def transcripts(run: Run) -> Iterator[tuple[ProblemHistory, list[dict[str, Any]]]]:
    """Each problem of a run, and the events of its sample."""
    models = EvalModels(run.started.identity)
    for problem in run.problems():
        yield problem, sample(problem, None, models, "run")["events"]


def test_each_decoding_shows_where_a_budget_had_moved_its_threshold(record: Record) -> None:
    problems = [Problem(str(n), str(n), str(n)) for n in range(4)]
    run = record(problems, budget=0.3, sampling={"samples": 2, "temperature": 0.5})
    moved = [problem.thresholds() for problem, _ in transcripts(run)]
    shown = [
        dict(enumerate(event["data"]["threshold"] for event in events if event.get("source") == "arbiter"))
        for _, events in transcripts(run)
    ]
    assert shown == moved
    assert len({at for each in moved for at in each.values()}) > 1


def test_whose_step_a_score_is_of_does_not_depend_on_what_the_problem_is_called(record: Record) -> None:
    [(_, events)] = transcripts(record([Problem("a/0/step_regenerated/prm/0", "7", "7")]))
    scores = [event["score"]["explanation"] for event in events if event["event"] == "score"]
    assert scores == ["the router's score of the draft's step"] * 2
