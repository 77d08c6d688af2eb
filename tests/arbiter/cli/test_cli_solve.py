"""``arbiter solve`` and ``arbiter doctor`` as a user calls them, on the pocket models."""

import subprocess
from collections.abc import Callable

import msgspec
import pytest

from arbiter.protocols.records import Solution

Arbiter = Callable[..., subprocess.CompletedProcess[str]]
QUESTION = "Compute (58*6)-77."


def test_each_step_is_shown_with_its_author_and_score_and_the_answer_comes_last(arbiter: Arbiter) -> None:
    ended = arbiter("solve", QUESTION)
    assert ended.returncode == 0
    assert ended.stderr.startswith("loading models for router: draft pocket:draft, ")
    *steps, answer, figures = [line for line in ended.stdout.splitlines() if line.strip()]
    assert len(steps) == 3
    assert all(step.rpartition("  ")[2].partition(",")[0] in ("draft", "target") for step in steps)
    assert f"boxed{{{answer}}}" in steps[-1]
    assert figures.startswith("answered; ")


def test_json_is_the_whole_solution_and_nothing_else(arbiter: Arbiter) -> None:
    ended = arbiter("solve", QUESTION, "--run-type", "target", "--json")
    solution = msgspec.json.decode(ended.stdout, type=Solution)
    assert solution.question == QUESTION
    assert {step.kept.author for step in solution.steps} == {"target"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["  "], "empty"),
        ([QUESTION, "--config", "nowhere"], "'nowhere'"),
        ([QUESTION, "--threshold", "7"], "threshold"),
    ],
)
def test_what_cannot_be_solved_is_told_in_a_line(arbiter: Arbiter, arguments: list[str], named: str) -> None:
    ended = arbiter("solve", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert named in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_question_longer_than_the_models_context_is_told_with_the_way_out(arbiter: Arbiter) -> None:
    ended = arbiter("solve", "Compute " + "1+" * 2000 + "1.")
    assert ended.returncode == 2
    assert "context" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_the_doctor_finds_the_pocket_models_well(arbiter: Arbiter) -> None:
    ended = arbiter("doctor", "pocket")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert {line[0] for line in lines} == {"ok"}
    assert list(dict.fromkeys(line[1] for line in lines)) == ["draft", "target", "prm", "router"]
    assert [line.split(" ")[-3:] for line in ended.stdout.splitlines() if "checks proposals" in line] == [
        ["the", "same", "step"]
    ]
