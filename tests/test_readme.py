"""What the README shows works as it stands there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from arbiter.config.config import parse

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_library_example_solves_its_problem() -> None:
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert re.search(r"\\boxed\{\d+\}", done.stdout)


def test_the_configuration_example_has_no_unknown_key() -> None:
    (text,) = blocks("toml")
    config = parse(tomllib.loads(text), "README.md")
    assert config.threshold == 0.7


def test_the_two_commands_for_a_fresh_machine_are_on_the_first_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:30])
    assert ".venv/bin/arbiter bench pocket" in first_screen
    assert ".venv/bin/just check" in first_screen
