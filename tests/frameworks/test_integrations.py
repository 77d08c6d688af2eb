"""What docs/how-to/frameworks.md shows works as it stands there."""

import re
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "frameworks.md").read_text(encoding="utf-8")
SHOWN = "http://127.0.0.1:8400"


class Block(NamedTuple):
    """A block of code under a heading, and the file that it is to be put into, if one."""

    heading: str
    language: str
    file: str
    code: str

    @property
    def name(self) -> str:
        return self.heading.replace(" ", "-").lower()


def blocks() -> list[Block]:
    """All of the page."""
    found: list[Block] = []
    for section in PAGE.split("\n## "):
        heading, _, text = section.partition("\n")
        found += [
            Block(heading, language, file, code)
            for language, file, code in re.findall(r"```(\w+)(?: file=(\S+))?\n(.*?)```", text, flags=re.DOTALL)
        ]
    return found


PROGRAMS = [block for block in blocks() if block.language == "python" and not block.file]
COMMANDS = [block for block in blocks() if block.language == "bash" and "arbiter serve" not in block.code]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the files of the page."""
    for block in blocks():
        if block.file:
            path = tmp_path / block.file
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.name)
def test_each_program_prints_the_right_answer_wherever_it_prints(
    block: Block, address: str, the_answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = compile(block.code.replace(SHOWN, address), f"docs/how-to/frameworks.md: {block.heading}", "exec")
    exec(program, {"__name__": "__main__"})  # noqa: S102
    assert capsys.readouterr().out.count(the_answer) == block.code.count("print(")


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a line of shell, its command in this process: to import the frameworks once more takes half a minute."""
    words = shlex.split(line)
    if words[0] == "export":
        for word in words[1:]:
            name, _, value = word.partition("=")
            monkeypatch.setenv(name, value)
        return
    (script,) = entry_points(group="console_scripts", name=words[0])
    main: Callable[[], object] = script.load()
    monkeypatch.setattr(sys, "argv", words)
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, line  # noqa: PT017


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("block", COMMANDS, ids=[f"{block.name}-{place}" for place, block in enumerate(COMMANDS)])
def test_each_command_scores_all_problems_right(
    block: Block,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for line in block.code.replace("\\\n", " ").replace(SHOWN, address).splitlines():
        run(line, monkeypatch)
    printed = capfd.readouterr().out
    assert re.search(r"accuracy\s+1\.000|exact_match\|↑\s*\|\s*1\|", printed), printed


def test_the_page_begins_with_the_command_that_the_tests_start() -> None:
    (command, *_) = [block.code for block in blocks() if block.language == "bash"]
    assert shlex.split(command, comments=True) == ["arbiter", "serve", "pocket"]
