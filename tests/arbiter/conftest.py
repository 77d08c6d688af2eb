"""Configurations, results made by hand, and the command."""

import functools
import subprocess
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from arbiter.config.config import Config, parse
from arbiter.grading import Grade
from arbiter.grading.code.sandboxes import Sandbox
from arbiter.grading.math_grader import VERSION
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Author, Candidate, Model, Rating, RequestCounts, Solution, StepRecord, Usage
from arbiter.runs.reports.problem_outcomes import ProblemOutcome
from arbiter.runs.results import Result
from tests.browser import CHROMIUM, Window
from tests.command_line import call_arbiter


@pytest.fixture
def arbiter(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line, called in an empty folder."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return call_arbiter(*arguments, folder=tmp_path)

    return call


@pytest.fixture(scope="module")
def window() -> Generator[Window]:
    """A browser. A test that asks for one is skipped where none is on the path."""
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome is on this machine's path")
    opened = Window()
    yield opened
    opened.close()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing try to reach the Hugging Face hub, which takes long where there is no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The path of a real benchmark; a test that asks for one that is not on this machine is skipped."""

    def find(name: str) -> Path:
        path = Path(__file__).parents[2].parent / "shared" / "data" / name
        if not path.is_file():
            pytest.skip(f"{path} is not on this machine")
        return path

    return find


@pytest.fixture(scope="session")
def a_config() -> Callable[..., Config]:
    """A configuration with the keys that matter to a test; its models are never loaded."""

    def build(**keys: Any) -> Config:
        model = {"model": "nowhere", "prompt": "{question}"}
        tables = dict.fromkeys(("draft", "target", "prm", "router", "judge"), model)
        return parse({"models": tables, **keys}, "test")

    return build


@pytest.fixture(scope="session")
def a_candidate() -> Callable[..., Candidate]:
    """A step of three tokens, with a process reward if it is given a ``score``."""

    def build(author: Author = "draft", score: float | None = None, tokens: int = 3, **fields: Any) -> Candidate:
        rating = None if score is None else Rating(score, Usage(prompt_tokens=10), 0.5)
        usage = Usage(prompt_tokens=10, completion_tokens=tokens)
        given: dict[str, Any] = {
            "text": f"a step of the {author}",
            "stop_reason": "separator",
            "seconds": 1.0,
            **fields,
        }
        return Candidate(author=author, usage=usage, rating=rating, **given)

    return build


@pytest.fixture(scope="session")
def a_solution(a_candidate: Callable[..., Candidate]) -> Callable[..., Solution]:
    """A solution whose one step is the draft's, with the fields that matter to a test."""

    def build(problem: str = "p", *steps: StepRecord, **fields: Any) -> Solution:
        calls: dict[Model, RequestCounts] = {"draft": RequestCounts(requests=1, usage=Usage(10, 3))}
        given: dict[str, Any] = {"finish_reason": "answered", "seconds": 1.0, "requests": calls, **fields}
        kept = steps or (StepRecord(candidates=(a_candidate(),), chosen=0),)
        return Solution(problem=problem, question=f"question {problem}", steps=kept, **given)

    return build


@pytest.fixture(scope="session")
def a_result(a_solution: Callable[..., Solution]) -> Callable[..., Result]:
    """A result of ``solution``, or of a solution with the given fields."""

    def build(right: bool | None = True, solution: Solution | None = None, **fields: Any) -> Result:
        return Result(solution or a_solution(**fields), Grade(right=right), reference="1", grader=VERSION)

    return build


@functools.cache
def unusable() -> str | None:
    """Return why bubblewrap cannot be used here; None if it can."""
    try:
        anyio.run(Sandbox().check)
    except ConfigError as error:
        return str(error)
    return None


@pytest.fixture
def bubblewrap() -> None:
    """Skip the test where programs cannot run in bubblewrap."""
    if reason := unusable():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def a_point() -> Callable[..., Any]:
    """Return the point of a curve: a run with ten steps per problem, of which the draft wrote ``accepted``."""

    def build(accepted: float, right: Sequence[bool | None], threshold: float | None = None, **fields: Any) -> Any:
        from arbiter.runs.reports.curves import CurvePoint  # needs numpy

        return CurvePoint(
            threshold,
            [
                ProblemOutcome(f"p{number}", None if one is None else float(one), round(10 * accepted), 10, **fields)
                for number, one in enumerate(right)
            ],
        )

    return build
