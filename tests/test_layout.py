"""``benchmarks/layout.py`` and ``checkout.py`` read small checkouts correctly."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checkout import (
    Import,
    class_names,
    cycles,
    declared_layers,
    heights,
    least_upward,
    module_names,
    read_source,
    upward,
)

ROOT = Path(__file__).parent.parent
PROJECT = '[tool.arbiter]\nlayers = [["protocols"], ["log"], ["cli"]]\n'


def checkout(root: Path, files: dict[str, str]) -> Path:
    """Write a checkout with these files, an empty package ``arbiter`` and a project file."""
    for name, text in {"pyproject.toml": "", "arbiter/__init__.py": "", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def packages_imported(root: Path) -> set[tuple[str, str]]:
    return {one.packages for one in read_source(root).imports}


def between(*packages: tuple[str, str]) -> list[Import]:
    return [Import(f"arbiter.{source}", f"arbiter.{target}") for source, target in packages]


def test_a_room_is_a_package_a_loose_module_or_one_of_the_folders_at_the_root(tmp_path: Path) -> None:
    names = "protocols/ids.py", "actors/ring.py", "arbiter/log/run.py", "arbiter/extending.py", "arbiter/__main__.py"
    source = read_source(checkout(tmp_path, dict.fromkeys(names, "")))
    assert source.packages == ["actors", "extending", "log", "protocols"]


def test_files_behind_symbolic_links_do_not_count_twice(tmp_path: Path) -> None:
    root = checkout(tmp_path, {"actors/ring.py": "class Ring: ..."})
    (root / "arbiter" / "actors").symlink_to("../actors")
    source = read_source(root)
    assert list(source.files) == ["arbiter.actors.ring", "arbiter"]
    assert class_names(source).total == 1


@pytest.mark.parametrize(
    "line",
    [
        "import protocols.ids",
        "import arbiter.protocols.ids",
        "from protocols import ids",
        "from arbiter.protocols.ids import parse",
        "from ..protocols.ids import parse",
        "def parse():\n    from arbiter.protocols.ids import parse",
        "if TYPE_CHECKING:\n    from arbiter.protocols.ids import parse",
        'importlib.import_module("arbiter.protocols.ids")',
    ],
)
def test_an_import_counts_in_each_of_its_forms(tmp_path: Path, line: str) -> None:
    root = checkout(tmp_path, {"protocols/ids.py": "", "arbiter/log/run.py": line})
    assert read_source(root).imports == [Import("arbiter.log.run", "arbiter.protocols.ids")]


def test_a_name_that_is_no_module_is_imported_from_the_package_that_has_it(tmp_path: Path) -> None:
    lines = "from arbiter import __version__, log\nfrom arbiter.log import Run\nimport json"
    root = checkout(tmp_path, {"arbiter/log/__init__.py": "", "arbiter/cli/main.py": lines})
    assert packages_imported(root) == {("cli", "__init__"), ("cli", "log")}


def test_a_circle_counts_as_one_floor() -> None:
    imports = between(("cli", "log"), ("log", "data"), ("data", "log"), ("data", "protocols"))
    assert cycles(imports) == [["data", "log"]]
    assert heights(imports) == {"cli": 3, "log": 2, "data": 2, "protocols": 1}


def test_the_program_is_on_no_floor() -> None:
    imports = between(("__main__", "cli"), ("cli", "log"))
    assert heights(imports) == {"cli": 2, "log": 1}


def test_an_import_that_does_not_reach_a_lower_declared_floor_is_upward(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    layers = declared_layers(tmp_path)
    up = between(("log", "cli"), ("protocols", "new"))
    assert upward([*between(("cli", "log"), ("new", "log"), ("log", "protocols")), *up], layers) == up
    assert upward(between(("cli", "log")), [["cli", "log"]]) == between(("cli", "log"))


def test_without_declared_floors_the_fewest_imports_are_upward(tmp_path: Path) -> None:
    checkout(tmp_path, {})
    assert declared_layers(tmp_path) == []
    imports = [*between(("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")), Import("arbiter.c.other", "arbiter.a")]
    assert upward(imports, least_upward(imports)) in (between(("a", "b")), between(("b", "c")))


def test_a_command_may_have_the_name_of_the_module_that_it_imports(tmp_path: Path) -> None:
    files = {
        "arbiter/sweep/sweep.py": "class Sweep: ...",
        "arbiter/cli/sweep.py": "from arbiter.sweep.sweep import run\nclass Sweep: ...",
        "arbiter/cli/plan.py": "",
        "arbiter/sweep/plan.py": "class Point: ...\nclass _Hidden: ...",
        "arbiter/evaluation/curves.py": "class Point: ...\nclass _Hidden: ...",
    }
    source = read_source(checkout(tmp_path, files))
    modules, classes = module_names(source), class_names(source)
    assert (modules.total, modules.distinct) == (5, 3)
    assert modules.commands == {"sweep": ["arbiter.cli.sweep", "arbiter.sweep.sweep"]}
    assert modules.repeated == {"plan": ["arbiter.cli.plan", "arbiter.sweep.plan"]}
    assert classes.commands == {"Sweep": ["arbiter.cli.sweep", "arbiter.sweep.sweep"]}
    assert classes.repeated == {"Point": ["arbiter.evaluation.curves", "arbiter.sweep.plan"]}


def layouts(*options: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(ROOT / "benchmarks" / "layout.py"), *options, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)


@pytest.mark.slow
def test_the_layout_of_this_checkout_is_measured_by_default() -> None:
    (found,) = layouts("--no-imports")
    assert found["checkout"] == str(ROOT)
    assert found["packages"] == read_source(ROOT).packages
    assert found["costs"] == {}


@pytest.mark.slow
def test_the_cost_of_imports_is_measured_in_each_checkout(tmp_path: Path) -> None:
    program = {"arbiter/__main__.py": "import sys\nprint(sys.argv[1:])\nsys.exit(0)"}
    light = checkout(tmp_path / "light", program)
    heavy = checkout(tmp_path / "heavy", {**program, "arbiter/__init__.py": "import json, sqlite3, asyncio"})
    costs = [one["costs"] for one in layouts(str(light), str(heavy), "--rounds", "1")]
    for name in ("import arbiter", "arbiter --version"):
        assert costs[0][name]["modules"] < costs[1][name]["modules"]
        assert all(one[name]["seconds"] > 0 and one[name]["ratio"] > 0 for one in costs)
