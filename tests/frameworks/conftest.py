"""One endpoint over the pocket models for all frameworks, and frameworks that ask nobody else.

The frameworks are in an environment of their own (``just frameworks-env``; ``just test-frameworks`` runs pytest there):
in another one all of this is skipped.
"""

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

FOLDER = Path(__file__).parent
SECONDS = 120
"""How long the endpoint may take until it is there, on a busy machine."""

GIVEN = "ARBITER_TEST_ENDPOINT"
"""The variable with the address of an endpoint that is there already, for tests that run tests."""

ARE_THERE = all(importlib.util.find_spec(name) for name in ("agents", "inspect_ai", "litellm", "lm_eval"))
QUESTION = "Compute (12+30)*7."
ANSWER = r"\boxed{294}"

if ARE_THERE:  # before the first of them is imported
    os.environ |= {
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "INSPECT_DISPLAY": "plain",
        "LANGSMITH_TRACING": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }


class Total(BaseModel):
    """A structured answer. Its bounds keep the pocket models, which know no JSON, from endless numbers."""

    value: Annotated[int, Field(ge=0, le=999)]
    kind: Literal["sum", "product"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the frameworks where they are not."""
    for item in items:
        if FOLDER in item.path.parents and not ARE_THERE:
            item.add_marker(pytest.mark.skip(reason="the frameworks are not installed here: just frameworks-env"))


@pytest.fixture(scope="session", autouse=True)
def starting(tmp_path_factory: pytest.TempPathFactory) -> Generator[Callable[[], str]]:
    """Starts ``arbiter serve pocket`` with the first test, and tells where it listens as soon as it does."""
    if GIVEN in os.environ:
        yield lambda: os.environ[GIVEN]
        return
    said = tmp_path_factory.mktemp("endpoint") / "said.txt"
    with said.open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", "arbiter", "serve", "pocket", "--port", "0"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield lambda: _address(said, started)
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@pytest.fixture(scope="session")
def address(starting: Callable[[], str]) -> str:
    """Where the endpoint listens."""
    return starting()


def _address(said: Path, started: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + SECONDS
    while (found := re.search(r"at (http://\S+)/v1", said.read_text(encoding="utf-8"))) is None:
        assert started.poll() is None, said.read_text()
        assert time.monotonic() < until, said.read_text()
        time.sleep(0.1)
    return found[1]


@pytest.fixture(scope="session")
def base_url(address: str) -> str:
    return f"{address}/v1"


@pytest.fixture(scope="session")
def question() -> str:
    """A problem that the pocket models solve: ``the_answer`` is what they come to."""
    return QUESTION


@pytest.fixture(scope="session")
def the_answer() -> str:
    return ANSWER


@pytest.fixture(scope="session")
def total() -> type[BaseModel]:
    """The class of a structured answer."""
    return Total
