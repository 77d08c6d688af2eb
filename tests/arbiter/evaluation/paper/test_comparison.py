"""Runs compared at matched acceptance, on constructed results."""

import random

from arbiter.config.run_tables import RunType
from arbiter.evaluation.paper.comparison import CurveComparison, Ran, compare
from arbiter.grading import Grade
from arbiter.protocols.records import Author, Candidate, Model, RequestCounts, Solution, StepRecord, Usage
from arbiter.runs.results import Result

PROBLEMS = 200
RATES = (0.25, 0.5, 0.75)


def a_step(author: Author) -> StepRecord:
    return StepRecord((Candidate(author=author, text="", stop_reason="separator", usage=Usage(), seconds=0.0),), 0)


def a_run(run_type: RunType, threshold: float | None, accepted: int, right: float, seed: int = 0) -> Ran:
    """Return a run with ten steps per problem. The draft wrote ``accepted`` of them; ``right`` is the share solved."""
    order = random.Random(seed).sample(range(PROBLEMS), PROBLEMS)
    results: list[Result] = []
    for problem in range(PROBLEMS):
        steps = tuple(a_step("draft" if step < accepted else "target") for step in range(10))
        counts = RequestCounts(requests=10 - accepted, usage=Usage(completion_tokens=7))
        calls: dict[Model, RequestCounts] = {"target": counts} if accepted < 10 else {}
        solution = Solution(f"p{problem}", "q", steps, "answered", 2.0, calls)
        results.append(Result(solution, Grade(right=order[problem] < right * PROBLEMS, answer="1", reason="exact")))
    return Ran(f"{run_type}-{threshold}", run_type, threshold, results)


def compared(router: float) -> CurveComparison:
    runs = [
        a_run("draft", None, 10, 0.2),
        a_run("target", None, 0, 0.6),
        a_run("random", 0.5, 5, 0.4),
        a_run("rsd", 0.5, 5, 0.5),
        a_run("router", 0.5, 5, router),
        a_run("oracle", 0.0, 5, 0.8),
    ]
    return compare(runs, RATES, 200, 0)


def test_curves_are_lines_between_their_runs_and_both_models_alone() -> None:
    curves = {curve.run_type: curve for curve in compared(0.7).curves}
    assert [round(each.value or 0, 6) for each in curves["random"].accuracy] == [0.5, 0.4, 0.3]
    assert [round(each.value or 0, 6) for each in curves["router"].accuracy] == [0.65, 0.7, 0.45]


def test_the_area_of_random_is_0_and_of_the_oracle_1_and_others_lie_between() -> None:
    areas = {curve.run_type: round(curve.area.value or 0, 6) for curve in compared(0.6).curves}
    assert (areas["random"], areas["oracle"], areas["router"], areas["rsd"]) == (0, 1, 0.5, 0.25)


def test_differences_are_told_at_every_rate_with_the_test_of_the_nearest_runs() -> None:
    found = [each for each in compared(0.7).differences if (each.one, each.other) == ("router", "rsd")]
    assert [each.acceptance for each in found] == list(RATES)
    middle = found[1]
    assert round(middle.difference.value or 0, 6) == 0.2
    assert (middle.mcnemar.first, middle.mcnemar.second) == (40, 0)
    assert middle.difference.interval is not None
    assert middle.difference.interval[0] > 0.1


def test_the_comparison_has_what_each_run_type_recovers_of_the_gap() -> None:
    recovery = compared(0.7).recovery
    assert round(recovery.gap.value or 0, 6) == 0.4
    assert {run.run_type: round(run.recovered.value or 0, 6) for run in recovery.runs} == {
        "random": 0.5,
        "rsd": 0.75,
        "router": 1.25,
        "oracle": 1.5,
    }


def test_a_run_tells_what_it_asked_of_the_target_a_problem() -> None:
    points = {point.run_type: point for point in compared(0.7).points}
    assert (points["router"].target_calls, points["router"].target_tokens, points["router"].seconds) == (5, 7, 2)
    assert (points["draft"].target_calls, points["draft"].acceptance) == (0, 1)
