"""``arbiter solve --tools`` as a user calls it, with a model behind a server that answers in the form of Qwen."""

import json
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
import pytest

from arbiter.protocols.records import Solution
from tests.completions_server import completions_server

Arbiter = Callable[..., subprocess.CompletedProcess[str]]
CALL = {"name": "add", "arguments": {"a": 1}}
ADD = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": ADD}}]
CONFIG = """
run_type = "target"
[models.target]
backend = "http"
url = "{url}"
model = "m"
prompt = "qwen3"
engine = "vllm"
"""


def write(prompt: str) -> str:
    """Call the tool, or answer in words if the prompt offers none."""
    call = f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"
    return f"I add.\n{call}" if "<tools>" in prompt else "It is \\boxed{2}."


@pytest.fixture
def config(tmp_path: Path) -> Generator[str]:
    """A configuration whose target is served as long as the test runs, next to a file of tools."""
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS), encoding="utf-8")
    with completions_server(write) as url:
        (tmp_path / "mine.toml").write_text(CONFIG.format(url=url), encoding="utf-8")
        yield "mine.toml"


@pytest.mark.slow
def test_an_answer_that_calls_tools_ends_with_its_calls(arbiter: Arbiter, config: str) -> None:
    ended = arbiter("solve", "1+1?", "--config", config, "--tools", "tools.json")
    assert ended.returncode == 0, ended.stderr
    *steps, call, figures = [line for line in ended.stdout.splitlines() if line.strip()]
    assert steps[0].startswith("I add.")
    assert json.loads(call) == CALL
    assert figures.startswith("tool_calls; ")
    solved = arbiter("solve", "1+1?", "--config", config, "--tools", "tools.json", "--tool-choice", "none", "--json")
    solution = msgspec.json.decode(solved.stdout, type=Solution)
    assert (solution.tool_calls, solution.answer) == ((), "2")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--tools", "nowhere.json"], "--tools nowhere.json: cannot read the tools"),
        (["--tools", "object.json"], "--tools object.json: the file must have a list of tools"),
        (["--tool-choice", "required"], "--tool-choice needs tools"),
    ],
)
def test_a_file_without_tools_is_refused_by_name(
    arbiter: Arbiter, tmp_path: Path, arguments: list[str], named: str
) -> None:
    (tmp_path / "object.json").write_text("{}", encoding="utf-8")
    ended = arbiter("solve", "1+1?", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert named in ended.stderr
    assert ended.stderr.count("\n") == 1
