"""Imports only go down, and a model library is loaded only where models run."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODEL_LIBRARIES = {"torch", "transformers", "tokenizers", "safetensors", "sglang"}


def imports_of(file: Path) -> set[str]:
    """Top-level names of all modules that a file imports, those inside its functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize(
    ("floor", "allowed"),
    [
        ("protocols", {"protocols", "msgspec"}),
        ("actors", {"actors", "protocols", "anyio", "msgspec"}),
    ],
)
def test_a_floor_imports_only_what_stands_below_it(floor: str, allowed: set[str]) -> None:
    files = list((ROOT / floor).rglob("*.py"))
    above = {file.name: imports_of(file) - allowed - sys.stdlib_module_names for file in files}
    assert files
    assert {name: names for name, names in above.items() if names} == {}


def test_only_backends_and_training_import_a_model_library() -> None:
    parts = ("backends", "training", "serving/sglang_cpu")  # the last is imported by sglang's own process alone
    houses = [ROOT / "arbiter" / part for part in parts]
    files = [file for file in (ROOT / "arbiter").rglob("*.py") if not any(house in file.parents for house in houses)]
    assert files
    assert [str(file.relative_to(ROOT)) for file in files if imports_of(file) & MODEL_LIBRARIES] == []


def test_importing_arbiter_and_its_ring_loads_no_model_library() -> None:
    program = f"import sys, arbiter, arbiter.ring; print(sorted({MODEL_LIBRARIES} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
