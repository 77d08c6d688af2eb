"""The examples run and print what they should."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(folder: Path, *arguments: str) -> str:
    """What a program prints; a warning or a failure is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(printed: str, name: str) -> list[int]:
    """The whole numbers after ``name`` in what was printed."""
    line = next(line for line in printed.splitlines() if line.startswith(f"{name}: "))
    return [int(number) for number in re.findall(r"\d+", line.removeprefix(name))]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_imports_nothing_of_arbiter_but_what_is_exported(example: Path) -> None:
    imported = {
        node.module
        for node in ast.walk(ast.parse(example.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    ours = {name for name in imported if name.partition(".")[0] in ("arbiter", "actors", "protocols")}
    assert ours <= {"arbiter", "arbiter.extending"}


@pytest.mark.nightly
def test_a_program_in_the_place_of_the_target_solves_more_and_more_the_oftener_it_is_called(tmp_path: Path) -> None:
    printed = run(tmp_path, str(ROOT / "examples" / "own_backend.py"))
    model, program, oftener = (figures(printed, name) for name in ("model", "program", "program, called more often"))
    assert model[1] == program[1] == oftener[1] == 40
    assert model[0] <= program[0] < oftener[0]
    assert program[2] < oftener[2]


@pytest.mark.slow
def test_a_policy_of_ones_own_decides_where_the_target_is_called(tmp_path: Path) -> None:
    printed = run(tmp_path, str(ROOT / "examples" / "own_policy.py"))
    router, strict = figures(printed, "router"), figures(printed, "strict at first")
    assert strict[2] < router[2]
    assert (router[3] > 0, strict[3]) == (True, 0)


@pytest.mark.nightly
def test_a_verifier_of_ones_own_has_more_problems_solved_than_the_draft_solves_alone(tmp_path: Path) -> None:
    printed = run(tmp_path, str(ROOT / "examples" / "own_actor.py"))
    alone, checked = figures(printed, "draft alone"), figures(printed, "checked")
    assert alone[0] < checked[0]
    assert alone[2] == 0 < checked[2]


@pytest.mark.nightly
def test_a_grader_of_ones_own_judges_what_the_usual_one_finds_no_answer_in(tmp_path: Path) -> None:
    printed = run(tmp_path, str(ROOT / "examples" / "own_grader.py"))
    usual, own = figures(printed, "math"), figures(printed, "last number")
    assert usual[:2] == own[:2]
    assert (usual[2:], own[2:]) == ([0, 20], [20, 20])


@pytest.mark.slow
def test_an_agent_streams_a_conversation_maps_questions_and_leaves_early(tmp_path: Path) -> None:
    printed = run(tmp_path, str(ROOT / "examples" / "agent.py"))
    assert "boxed{42}" in printed
    assert "many questions: 32 of 32 answered" in printed
    assert "the first answer: Compute 11+12. " in printed
    assert "still running: 0" in printed


@pytest.mark.nightly
def test_a_script_needs_no_event_loop(tmp_path: Path) -> None:
    printed = run(tmp_path, str(ROOT / "examples" / "script.py"))
    assert "boxed{294}" in printed
    assert figures(printed, "threshold 1.0")[2:] == [0]
