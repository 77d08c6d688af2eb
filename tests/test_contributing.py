"""Each file and each function that CONTRIBUTING.md names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FUNCTIONS = sorted(set(re.findall(r"`([\w/]+\.py):([\w.]+)`", TEXT)))
FILES = sorted(set(re.findall(r"`((?:arbiter|actors|protocols|benchmarks|tests|docs|configs)/[\w/.-]+)[`:]", TEXT)))


def names_in(body: list[ast.stmt], prefix: str = "") -> set[str]:
    """Return the functions and classes of a module, and the methods of its classes."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                names |= names_in(node.body, f"{prefix}{node.name}.")
    return names


def test_the_walks_name_functions() -> None:
    assert len(FUNCTIONS) > 30


@pytest.mark.parametrize(("file", "name"), FUNCTIONS)
def test_a_function_that_is_named_is_there(file: str, name: str) -> None:
    assert name in names_in(ast.parse((ROOT / file).read_text(encoding="utf-8")).body)


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_named_is_there(file: str) -> None:
    assert (ROOT / file).exists()
