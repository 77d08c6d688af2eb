"""Every package that is imported is declared: by the core, or by an extra that the module's docstring names.

A module names its extra as "the extra ``NAME``", in its own docstring or in that of a package above it.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
DISTRIBUTIONS = packages_distributions()

OWN = ("protocols", "actors", "arbiter")
OTHERS = ("tests", "benchmarks", "docs", "examples")
NOT_OURS = "sglang_cpu"  # the folder that only sglang's own process imports, in an environment of its own
OTHER_ENVIRONMENTS = ("tests/servers", "tests/frameworks", "benchmarks/peer_loops.py")  # with requirements of their own

TOOLS = ("dev", "docs")  # extras of programs that nothing in arbiter imports

IMPORTED_BY_OTHERS = {
    "accelerate": "transformers' Trainer imports it, and transformers declares it in an extra alone",
    "protobuf": "perfetto imports it, and declares no version, though its code needs a recent one",
}


def normal(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_in(requirements: Iterable[str]) -> set[str]:
    """The distributions that requirements name; one on an extra of the project itself stands for what is in it."""
    names: set[str] = set()
    for requirement in requirements:
        found = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement)
        assert found, requirement
        if found[1] == PROJECT["name"]:
            names |= names_in(one for extra in found[2].split(",") for one in EXTRAS[extra])
        else:
            names.add(normal(found[1]))
    return names


CORE = names_in(PROJECT["dependencies"])
DEVELOPMENT = CORE | names_in(EXTRAS["dev"])


def files_below(*folders: str) -> list[Path]:
    files = sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    assert files
    return files


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports_of(file: Path) -> frozenset[str]:
    """Top-level names of all that a file imports anywhere in it, without the standard library's and our own."""
    names: set[str] = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return frozenset(names - sys.stdlib_module_names - {*OWN, *OTHERS})


def distributions_of(module: str) -> set[str]:
    """The distributions that may bring a module; where none is installed, the one of the same name."""
    return {normal(name) for name in DISTRIBUTIONS.get(module, [module])}


@cache
def allowed_in(file: Path) -> set[str]:
    """The core's distributions, and those of the extras that the docstrings of the file and its packages name."""
    packages = [folder / "__init__.py" for folder in file.parents if folder.is_relative_to(ROOT)]
    allowed = set(CORE)
    for source in (file, *(one for one in packages if one.is_file())):
        for extra in re.findall(r"extra\s+``(\w+)``", ast.get_docstring(tree_of(source)) or ""):
            allowed |= names_in(EXTRAS[extra])
    return allowed


@pytest.mark.slow
def test_a_module_imports_only_what_the_core_or_an_extra_that_it_names_declares() -> None:
    files = [file for file in files_below(*OWN) if NOT_OURS not in file.parts]
    undeclared = {
        (str(file.relative_to(ROOT)), module)
        for file in files
        for module in imports_of(file)
        if not distributions_of(module) & allowed_in(file)
    }
    assert undeclared == set()


@pytest.mark.slow
def test_tests_benchmarks_and_examples_import_only_what_the_extra_for_development_declares() -> None:
    files = files_below(*OTHERS)
    files = [file for file in files if not any(file.is_relative_to(ROOT / other) for other in OTHER_ENVIRONMENTS)]
    siblings = {file.stem for file in files}
    undeclared = {
        (str(file.relative_to(ROOT)), module)
        for file in files
        for module in imports_of(file) - siblings
        if not distributions_of(module) & DEVELOPMENT
    }
    assert undeclared == set()


@pytest.mark.parametrize("extra", ["", *(name for name in EXTRAS if name not in TOOLS)])
def test_what_is_declared_is_imported_or_said_to_be_needed_by_another(extra: str) -> None:
    imported = {one for file in files_below(*OWN) for module in imports_of(file) for one in distributions_of(module)}
    declared = names_in(EXTRAS[extra]) if extra else CORE
    assert declared - imported - {*IMPORTED_BY_OTHERS} == set()


def test_the_tested_set_pins_every_requirement_of_development() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {normal(line.partition("==")[0]) for line in lines if "==" in line}
    assert DEVELOPMENT - pinned == set()
