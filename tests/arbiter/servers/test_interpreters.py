"""Where an engine's Python is searched for."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from arbiter.servers.interpreters import find_interpreter; print(find_interpreter({!r}, {!r}).path)"


def looked_for(folder: Path, program: str, named: str | None = None, **environment: str) -> str:
    """Return what a new process in ``folder`` finds, or its error."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(program, named)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout.strip() or ended.stderr.strip().splitlines()[-1]


def an_environment(folder: Path, has: str) -> Path:
    """Make a folder with a fake Python that reports it has the package ``has``."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$3" = {has} ] && echo True False False || echo False False False\n')
    python.chmod(0o755)
    return python


@pytest.mark.parametrize(
    ("program", "package", "usual"),
    [("sglang", "sglang", ".sglang"), ("vllm", "vllm", ".vllm"), ("llama.cpp", "llama_cpp", ".llama-cpp")],
)
def test_the_environment_in_this_folder_is_found(tmp_path: Path, program: str, package: str, usual: str) -> None:
    python = an_environment(tmp_path / usual, package)
    assert looked_for(tmp_path, program) == str(python)


def test_a_variable_comes_before_the_folder_and_the_table_before_both(tmp_path: Path) -> None:
    an_environment(tmp_path / ".llama-cpp", "llama_cpp")
    second, third = (an_environment(tmp_path / name, "llama_cpp") for name in ("second", "third"))
    by_variable = {"ARBITER_LLAMA_CPP_PYTHON": str(second)}
    assert looked_for(tmp_path, "llama.cpp", **by_variable) == str(second)
    assert looked_for(tmp_path, "llama.cpp", str(third), **by_variable) == str(third)


def test_without_an_environment_the_way_out_is_told(tmp_path: Path) -> None:
    message = looked_for(tmp_path, "sglang", "/nowhere/python")
    assert "python: there is no interpreter '/nowhere/python'" in message
    assert "just sglang-env" in message


def test_an_environment_without_the_engine_is_refused(tmp_path: Path) -> None:
    python = an_environment(tmp_path / "env", "another")
    assert f"ARBITER_VLLM_PYTHON: {python} has no vllm" in looked_for(tmp_path, "vllm", ARBITER_VLLM_PYTHON=str(python))
