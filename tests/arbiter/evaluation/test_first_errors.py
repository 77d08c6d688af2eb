"""Whether a scorer finds the first wrong step, measured as ProcessBench does."""

from pathlib import Path

import msgspec
import pytest

from arbiter.backends.scripted import ScriptedScorer
from arbiter.data.annotated_solutions import AnnotatedSolution
from arbiter.evaluation.first_errors import Scored, first_errors, step_scores, unscored_lines
from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.ports import ModelHandle, Scorer, ScoreRequest
from arbiter.protocols.records import Step
from tests.command_line import call_arbiter

SOLUTIONS = [
    AnnotatedSolution("wrong at the end", "q", ("good", "good", "bad"), 2),
    AnnotatedSolution("wrong in the middle", "q", ("good", "bad", "bad"), 1),
    AnnotatedSolution("right", "q", ("good", "good"), None),
    AnnotatedSolution("right as well", "q", ("good",), None),
]


def scored(request: ScoreRequest) -> float:
    return 0.9 if request.candidate == "good" else 0.1


@pytest.mark.parametrize(
    ("changed", "wrong", "right", "f1"),
    [
        ({}, 1.0, 1.0, 1.0),
        ({(0, 1): 0.2}, 0.5, 1.0, 2 / 3),
        ({(1, 1): 0.8}, 0.5, 1.0, 2 / 3),
        ({(2, 0): 0.49}, 1.0, 0.5, 2 / 3),
        ({(2, 0): 0.5}, 1.0, 1.0, 1.0),
        ({(0, 0): 0.0, (1, 0): 0.0, (2, 0): 0.0, (3, 0): 0.0}, 0.0, 0.0, 0.0),
        ({(0, 2): 0.9}, 0.5, 1.0, 2 / 3),
    ],
)
def test_only_the_first_step_below_the_threshold_counts(
    changed: dict[tuple[int, int], float], wrong: float, right: float, f1: float
) -> None:
    scores: list[Scored] = [
        [changed.get((number, index), 0.9 if step == "good" else 0.1) for index, step in enumerate(solution.steps)]
        for number, solution in enumerate(SOLUTIONS)
    ]
    found = first_errors(SOLUTIONS, scores, 0.5, "data", "prm")
    assert (found.wrong, found.right) == (2, 2)
    assert (found.accuracy_wrong, found.accuracy_right) == (wrong, right)
    assert found.f1 == pytest.approx(f1)


def test_without_right_or_wrong_solutions_there_is_no_f1() -> None:
    found = first_errors(SOLUTIONS[:1], [[0.9, 0.9, 0.1]], 0.5, "data", "judge")
    assert (found.accuracy_wrong, found.accuracy_right, found.f1) == (1.0, None, None)
    found = first_errors(SOLUTIONS[2:3], [[0.9, 0.9]], 0.5, "data", "judge")
    assert (found.accuracy_wrong, found.accuracy_right, found.f1) == (None, 1.0, None)


@pytest.mark.asyncio
async def test_each_step_is_scored_after_those_before_it_and_never_too_many_together() -> None:
    requests: list[ScoreRequest] = []

    def script(request: ScoreRequest) -> float:
        requests.append(request)
        return scored(request)

    scorer = ScriptedScorer(script, seconds=0.001)
    handle = ModelHandle[Scorer](scorer, in_flight=3)
    scores = await step_scores(SOLUTIONS, handle, "prm", "\n\n")
    assert scores == [[0.9, 0.9, 0.1], [0.9, 0.1, 0.1], [0.9, 0.9], [0.9]]
    assert scorer.most_running == 3
    [last] = [request for request in requests if request.problem == "wrong at the end" and request.step == 2]
    assert (last.transcript.question, last.candidate, last.score_kind) == ("q", "bad", "prm")
    assert last.transcript.steps == (Step("good", "draft"), Step("good", "draft"))


@pytest.mark.asyncio
async def test_the_error_of_a_model_is_raised_as_it_is() -> None:
    def fail(request: ScoreRequest) -> float:
        raise BackendError(f"no score for {request.problem}")

    with pytest.raises(BackendError, match="no score for wrong at the end"):
        await step_scores(SOLUTIONS[:1], ModelHandle[Scorer](ScriptedScorer(fail)), "prm", "\n\n")


@pytest.mark.asyncio
async def test_a_request_that_fails_loses_the_scores_of_no_other_solution() -> None:
    def script(request: ScoreRequest) -> float:
        if request.problem == "wrong at the end" and request.step == 1:
            raise ContextTooLongError("lower limits.max_tokens")
        if request.problem == "right":
            raise BackendError("the server said no")
        return scored(request)

    scores = await step_scores(SOLUTIONS, ModelHandle[Scorer](ScriptedScorer(script)), "prm", "\n\n")
    assert scores[1::2] == [[0.9, 0.1, 0.1], [0.9]]
    assert list(unscored_lines(scores)) == [
        "not scored: 1 of 4 solutions, which are longer than the context of the model",
        "not scored: 1 of 4 solutions, whose requests failed; the first: the server said no",
    ]
    found = first_errors(SOLUTIONS, scores, 0.5, "data", "prm")
    assert (found.wrong, found.right, found.unscored, found.f1) == (1, 1, 2, 1.0)


@pytest.mark.asyncio
async def test_solutions_that_are_all_too_long_are_an_error_that_does_not_speak_of_the_limits_of_a_run() -> None:
    def fail(request: ScoreRequest) -> float:
        raise ContextTooLongError("lower limits.max_tokens")

    with pytest.raises(ContextTooLongError, match=r"^no solution can be scored: each is longer than the context"):
        await step_scores(SOLUTIONS, ModelHandle[Scorer](ScriptedScorer(fail)), "prm", "\n\n")


ROWS = """\
{"id": "a", "problem": "What is 3 + 4?", "steps": ["First, 3 + 4 = 7."], "label": -1}
{"id": "b", "problem": "What is 3 + 4?", "steps": ["First, 3 + 4 = 9."], "label": 0}
"""


@pytest.mark.slow
def test_the_command_evaluates_the_pocket_reward_model(tmp_path: Path) -> None:
    path = tmp_path / "solutions.jsonl"
    path.write_text(ROWS, encoding="utf-8")
    done = call_arbiter("evaluate", "prm", "--config", "pocket", "--data", path, "--threshold", "0", "--json")
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(done.stdout)
    assert (found["scorer"], found["wrong"], found["right"]) == ("prm", 1, 1)
    assert (found["accuracy_wrong"], found["accuracy_right"], found["f1"]) == (0.0, 1.0, 0.0)
    assert "not scored" not in done.stderr
    long = {"id": "c", "problem": "What is 3 + 4?", "steps": ["3 + 4 = 7. " * 2000], "label": -1}
    path.write_bytes(ROWS.encode() + msgspec.json.encode(long))
    done = call_arbiter("evaluate", "prm", "--config", "pocket", "--data", path, "--threshold", "0", "--json")
    assert msgspec.json.decode(done.stdout) == {**found, "unscored": 1}
    assert "not scored: 1 of 3 solutions, which are longer than the context of the model\n" in done.stderr
    done = call_arbiter("evaluate", "prm", "--config", "pocket", "--data", path, "--threshold", "0", "--limit", "1")
    assert done.stdout.splitlines()[1:] == [
        "| solutions | number | judged right |",
        "|---|---|---|",
        "| with a wrong step: the first one is found | 0 | – |",
        "| without: no step is called wrong | 1 | 100.0% |",
        "| F1 | 1 | – |",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["judge", "--config", "pocket"], "error: pocket has no table [models.judge]: add it"),
        (
            ["prm", "--config", "pocket", "--threshold", "2"],
            "error: --threshold 2: it must be from 0 to 1, as scores are",
        ),
        (["prm", "--config", "pocket", "--limit", "0"], "error: --limit 0: it must be 1 or more"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(arguments: list[str], message: str) -> None:
    done = call_arbiter("evaluate", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
