"""What is imported, and when: by ``sys.modules`` of a fresh interpreter, not by a clock."""

import ast
import importlib
import inspect
import pickle
import subprocess
import sys
import typing
from importlib.metadata import version
from pathlib import Path

import pytest

import arbiter
from arbiter.cli.application import COMMANDS
from arbiter.protocols.records import Usage

ROOT = Path(__file__).parent.parent
SCRIPT = "import sys; sys.argv = ['arbiter', *{arguments!r}]; from arbiter.cli.main import main\ntry: main()\n{end}"
END = "except SystemExit: pass"
HTTP = {"aiohttp", "httptools", "httpx", "openai", "starlette", "uvicorn"}
HEAVY = HTTP | {
    "google",
    "inspect_ai",
    "jsonschema_rs",
    "math_verify",
    "matplotlib",
    "numpy",
    "opentelemetry",
    "perfetto",
    "prometheus_client",
    "pyarrow",
    "safetensors",
    "scipy",
    "sklearn",
    "structlog",
    "sympy",
    "tokenizers",
    "torch",
    "transformers",
    "trio",
}
"""Packages that take long to import, and that few uses of Arbiter need."""

NAMES: list[str] = vars(arbiter)["__all__"]  # type checkers see the imports alone


def modules_after(program: str) -> set[str]:
    """The modules that an interpreter has imported after ``program``, without those that it has before."""
    shown = "import sys; before = set(sys.modules)\n{}\nprint(' '.join(set(sys.modules) - before), file=sys.stderr)"
    command = [sys.executable, "-c", shown.format(program)]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split())


def packages_after(program: str) -> set[str]:
    """The packages that are not of the standard library among ``modules_after``."""
    return {name.partition(".")[0] for name in modules_after(program)} - sys.stdlib_module_names - {"cython_runtime"}


def command_line(*arguments: str) -> str:
    """A program that calls the command line and goes on."""
    return SCRIPT.format(arguments=list(arguments), end=END)


def typed_names() -> dict[str, str]:
    """The names by their modules as type checkers see them: the imports below ``if TYPE_CHECKING``."""
    tree = ast.parse(Path(arbiter.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom) and node.module]
    assert all(alias.asname == alias.name for node in imports for alias in node.names)  # else it is not exported
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def public_objects() -> list[object]:
    return [getattr(arbiter, name) for name in NAMES]


def test_importing_arbiter_imports_no_other_package_and_no_module_of_its_own() -> None:
    modules = modules_after("import arbiter")
    assert {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names} == {"arbiter"}


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("ArbiterError", {"protocols"}),
        ("Usage", {"protocols", "msgspec", "typing_extensions"}),
    ],
)
def test_naming_one_thing_imports_what_that_is_made_of_alone(name: str, packages: set[str]) -> None:
    assert packages_after(f"from arbiter import {name}") - {"arbiter"} <= packages


def test_no_name_of_arbiter_brings_a_slow_package_along() -> None:
    assert packages_after("from arbiter import *\nimport arbiter.extending") & HEAVY == set()


def test_the_version_is_shown_without_the_command_line_parser() -> None:
    modules = modules_after(command_line("--version"))
    assert {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names} == {
        "arbiter",
        "arbiter.cli",
        "arbiter.cli.main",
    }


@pytest.mark.parametrize("arguments", [["--help"], ["bench", "--help"], ["bensh"]], ids=" ".join)
@pytest.mark.slow
def test_the_command_line_imports_no_slow_package_to_show_help_or_to_refuse(arguments: list[str]) -> None:
    assert packages_after(command_line(*arguments)) & HEAVY == set()


def test_a_command_imports_the_module_of_no_other() -> None:
    loaded = {name for name in modules_after(command_line("show", "nowhere")) if name.startswith("arbiter.cli.")}
    assert {name.rpartition(".")[2] for name in loaded} & set(COMMANDS) == {"show"}


def test_a_command_draws_and_logs_nothing_before_there_is_something_to_show() -> None:
    loaded = modules_after(command_line("bench", "nowhere"))
    assert {"rich.progress", "rich.traceback", "structlog"} & loaded == set()


def test_each_module_of_a_command_is_one_that_can_be_called() -> None:
    folder = Path(importlib.import_module("arbiter.cli").__path__[0])
    modules = {path.stem: importlib.import_module(f"arbiter.cli.{path.stem}") for path in folder.glob("[a-z]*.py")}
    assert tuple(sorted(name for name, found in modules.items() if hasattr(found, f"{name}_command"))) == COMMANDS


def test_the_table_the_types_and_all_have_the_same_names_in_the_same_modules() -> None:
    table = {name: module for module, names in arbiter._NAMES.items() for name in names}  # pyright: ignore[reportPrivateUsage]
    assert table == typed_names()
    assert sorted(table) == NAMES


def test_each_name_is_that_of_its_module() -> None:
    for name, module in typed_names().items():
        assert getattr(arbiter, name) is getattr(importlib.import_module(module), name)


def test_a_star_import_and_dir_have_each_public_name() -> None:
    found: dict[str, object] = {}
    exec("from arbiter import *", found)  # noqa: S102 - it is allowed at the top of a module alone
    assert set(NAMES) == set(found) - {"__builtins__"}
    assert {*NAMES, "__version__"} <= set(dir(arbiter))


def test_a_name_that_is_not_there_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="module 'arbiter' has no attribute 'Arbitre'"):
        getattr(arbiter, "Arbitre")  # noqa: B009 - type checkers know that it is not there
    with pytest.raises(ImportError, match="cannot import name 'Arbitre' from 'arbiter'"):
        exec("from arbiter import Arbitre")  # noqa: S102


def test_the_version_is_that_of_the_distribution() -> None:
    assert arbiter.__version__ == version("arbiter-reasoning")


def test_public_classes_and_what_is_made_of_them_can_be_pickled() -> None:
    classes = [found for found in public_objects() if inspect.isclass(found)]
    assert pickle.loads(pickle.dumps(classes)) == classes  # noqa: S301 - our own bytes
    assert pickle.loads(pickle.dumps(arbiter.Usage(1))) == Usage(1)  # noqa: S301


def test_the_annotations_of_public_classes_and_functions_can_be_read() -> None:
    for found in public_objects():
        members = [found, *vars(found).values()] if inspect.isclass(found) else [found]
        for member in members:
            if inspect.isclass(member) or inspect.isfunction(member):
                typing.get_type_hints(member)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["bensh"], ["bench", "nowhere"]], ids=" ".join)
@pytest.mark.slow
def test_python_with_the_module_does_as_the_command_does(arguments: list[str], tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "arbiter")]
    script, module = (
        subprocess.run([*start, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        for start in (command, [sys.executable, "-m", "arbiter"])
    )
    assert (module.returncode, module.stdout, module.stderr) == (script.returncode, script.stdout, script.stderr)


def test_showing_a_run_imports_neither_the_configuration_nor_what_solves_and_grades() -> None:
    imported = modules_after("import arbiter.cli.show")
    unneeded = ("arbiter.config.config", "arbiter.data", "arbiter.grading", "arbiter.runs.results", "anyio")
    assert "arbiter.log.run" in imported
    assert imported.isdisjoint(unneeded)
