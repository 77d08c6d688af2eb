"""The code blocks of README.md and docs/ work as they are printed, in the order of their page.

The blocks of a page run in one folder, which has the files of the repository that commands read. An attribute on the
fence, as in ```` ```sh {.slow} ````, says why a block is not run here: it is a ``fragment`` of something, it is the
``set-up``, it is ``slow`` (minutes or hours), or it ``needs-gpu``, ``needs-servers`` or ``needs-network``. A page with
commands that run models on many problems is marked ``slow`` (README and tutorials) or ``nightly``.
"""

import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from arbiter.config.config import parse
from tests.command_line import call_arbiter

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
NOT_RUN = {"fragment", "needs-gpu", "needs-network", "needs-servers", "set-up", "slow"}
ELSEWHERE = "docs/how-to/frameworks.md"  # its programs need other environments: tests/frameworks runs them
COPIED = ("configs", "examples")
LINKED = ("arbiter", "benchmarks", "constraints.txt", "deploy", "docs", "justfile", "pyproject.toml", "README.md")
DIFFERENCES = ("diff", "replay")  # commands whose exit status 1 says that something differs
LONG = re.compile(
    r"^ *(arbiter (bench|collect|evaluate|reproduce|simulate|sweep|train|tune)\b|python (benchmarks|examples)/)",
    re.MULTILINE,
)
SHELL = re.compile(r"[|&;<>()$`{}]")
INFO = re.compile(r"(?P<language>\w+)(?: +\{(?P<attributes>[^}\n]*)\})?(?P<other>[^\n]*)\n")


def blocks(page: str, *languages: str) -> Iterator[Example]:
    """The code blocks of a page in one of the languages."""
    document = Document.parse(str(ROOT / page), RawFencedCodeBlockLexer(INFO))
    for example in document:
        example.parsed = example.region.lexemes["source"]
        if example.region.lexemes["language"] in languages:
            yield example


def attributes(block: Example) -> set[str]:
    """The attributes of a fence, without their dots."""
    return set(re.findall(r"\.([\w-]+)", block.region.lexemes["attributes"] or ""))


def place(block: Example) -> str:
    return f"{Path(block.path).relative_to(ROOT)}:{block.line}"


def pages_with(*languages: str) -> list[str]:
    """The pages that have a block in one of the languages that is not a fragment."""
    return [page for page in PAGES if any("fragment" not in attributes(one) for one in blocks(page, *languages))]


def runnable(page: str) -> list[Example]:
    """The blocks of a page that these tests run."""
    return [block for block in blocks(page, "sh", "python") if not attributes(block) & NOT_RUN]


def pages_to_run(*, long: bool) -> list[str]:
    """The pages that have blocks to run, and commands that take longer than a few seconds or none of them."""
    found = {page: runnable(page) for page in PAGES if page != ELSEWHERE}
    return [page for page, code in found.items() if code and long == any(LONG.search(one.parsed) for one in code)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the repository that commands read, and ``arbiter`` and ``python`` on PATH."""
    folder, programs = tmp_path / "checkout", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    for name, command in {"arbiter": f"{sys.executable} -m arbiter", "python": sys.executable}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def run_shell(block: Example) -> None:
    """Run a block of commands: in this process if all of them are plain ``arbiter`` commands, otherwise by bash."""
    lines = [shlex.split(line, comments=True) for line in block.parsed.replace("\\\n", " ").splitlines()]
    commands = [line for line in lines if line]
    if all(words[0] == "arbiter" and not SHELL.search(" ".join(words)) for words in commands):
        for _, *words in commands:
            arguments = [path for word in words for path in sorted(glob.glob(word)) or [word]]  # noqa: PTH207
            done = call_arbiter(*arguments, columns=120)
            allowed = {0, 1} if arguments[0] in DIFFERENCES else {0}
            assert done.returncode in allowed, f"{place(block)}: arbiter {shlex.join(arguments)}\n{done.stderr}"
        return
    script = ["bash", "-euo", "pipefail", "-c", block.parsed]
    done = subprocess.run(script, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{place(block)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}"


def run_page(page: str) -> None:
    """Run the blocks of a page in order, in one namespace."""
    run_python = PythonEvaluator()
    for block in runnable(page):
        if block.region.lexemes["language"] == "sh":
            run_shell(block)
        else:
            run_python(block)


@pytest.mark.parametrize("page", pages_to_run(long=False))
@pytest.mark.usefixtures("workplace")
@pytest.mark.slow
def test_the_blocks_of_a_page_run(page: str) -> None:
    run_page(page)


def marked(page: str) -> Any:
    """A page with long commands: what newcomers type first runs in CI, the others nightly."""
    is_first = page == "README.md" or page.startswith("docs/tutorials/")
    return pytest.param(page, marks=pytest.mark.slow if is_first else pytest.mark.nightly)


@pytest.mark.parametrize("page", [marked(page) for page in pages_to_run(long=True)])
@pytest.mark.usefixtures("workplace")
def test_the_blocks_of_a_page_with_long_commands_run(page: str) -> None:
    run_page(page)


@pytest.mark.parametrize("page", pages_with("toml"))
def test_toml_blocks_are_configurations(page: str) -> None:
    for block in blocks(page, "toml"):
        if "fragment" not in attributes(block):
            parse(completed(tomllib.loads(block.parsed)), place(block))


def completed(tree: dict[str, Any]) -> dict[str, Any]:
    """``tree`` with the keys that a configuration must have, where a page leaves them out."""
    models: dict[str, Any] = {**tree.get("models", {})}
    if "targets" in models:
        models["targets"] = {name: with_required(table) for name, table in models["targets"].items()}
    models |= {name: with_required(table) for name, table in models.items() if name != "targets"}
    return {**tree, "models": models}


def with_required(table: dict[str, Any]) -> dict[str, Any]:
    if table.get("backend") == "draft-head":
        return table
    required = {"model": "m", "prompt": "{question}"}
    return {**required, **({"url": "http://127.0.0.1:30000"} if table.get("backend") == "http" else {}), **table}


@pytest.mark.parametrize("page", pages_with("json"))
def test_json_blocks_are_json(page: str) -> None:
    for block in blocks(page, "json"):
        if "fragment" in attributes(block):
            continue
        lines = block.parsed.splitlines() if "jsonl" in block.region.lexemes["other"] else [block.parsed]
        for text in lines:
            json.loads(text)


@pytest.mark.parametrize("page", PAGES)
def test_a_fence_has_a_language_and_known_attributes(page: str) -> None:
    wrong = [place(one) for one in blocks(page, "sh", "python", "toml", "json") if attributes(one) - NOT_RUN]
    assert wrong == []
