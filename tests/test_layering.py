"""Imports go down the layers of ``[tool.arbiter] layers`` in pyproject.toml; few packages load a model library."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.checkout import (
    FACADE,
    LINKED,
    cycles,
    declared_layers,
    imported_names,
    package_of,
    read_source,
    upward,
)

ROOT = Path(__file__).parent.parent
SOURCE = read_source(ROOT)
LAYERS = declared_layers(ROOT)
OWN = {"arbiter", *LINKED}
MODEL_LIBRARIES = {"torch", "transformers", "tokenizers", "safetensors", "sglang"}
MODEL_PACKAGES = ("backends", "training")
SGLANGS_OWN = "arbiter.servers.sglang_cpu."  # imported only by the process of sglang


def third_party(module: str) -> set[str]:
    """The top-level names that a module imports from other distributions."""
    names = {name.partition(".")[0] for name in imported_names(SOURCE.trees[module], module)}
    return names - OWN - sys.stdlib_module_names


def test_every_room_is_on_one_floor() -> None:
    assert Counter(package for layer in LAYERS for package in layer) == Counter([*SOURCE.packages, FACADE])


def test_an_import_between_rooms_goes_down() -> None:
    assert SOURCE.imports
    assert [str(one) for one in upward(SOURCE.imports, LAYERS)] == []


def test_rooms_do_not_import_each_other_in_circles() -> None:
    assert cycles(SOURCE.imports) == []


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("protocols", {"msgspec"}),
        ("actors", {"anyio", "msgspec"}),
    ],
)
def test_the_lowest_rooms_import_few_distributions(package: str, allowed: set[str]) -> None:
    modules = [module for module in SOURCE.trees if package_of(module) == package]
    assert modules
    assert {module: others for module in modules if (others := third_party(module) - allowed)} == {}


def test_only_backends_and_training_import_a_model_library() -> None:
    importing = {module for module in SOURCE.trees if third_party(module) & MODEL_LIBRARIES}
    allowed = {module for module in importing if package_of(module) in MODEL_PACKAGES or module.startswith(SGLANGS_OWN)}
    assert allowed
    assert importing - allowed == set()


def test_importing_arbiter_and_its_ring_loads_no_model_library() -> None:
    program = f"import sys, arbiter, arbiter.actors.ring; print(sorted({MODEL_LIBRARIES} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
