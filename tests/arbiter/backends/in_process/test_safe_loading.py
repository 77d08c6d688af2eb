"""No checkpoint can run code: its own code is never loaded, and its weights are read from safetensors files alone."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import ast
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import arbiter
from arbiter.backends.in_process.model_loading import open_model
from arbiter.pocket import resolved
from arbiter.protocols.errors import BackendError
from arbiter.training.heads import open_base

ROOT = Path(arbiter.__file__).parent
RUNS_NO_CODE = ("GenerationConfig",)


def loads() -> Iterator[tuple[str, ast.Call]]:
    """Every call of ``from_pretrained`` in the project, with its place."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                reader = ast.unparse(node.func.value)
                if node.func.attr == "from_pretrained" and reader not in RUNS_NO_CODE:
                    yield f"{path.relative_to(ROOT)}:{node.lineno} {reader}", node


LOADS = dict(loads())


@pytest.mark.parametrize("place", LOADS)
def test_code_of_a_checkpoint_is_refused_outright(place: str) -> None:
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in LOADS[place].keywords}
    assert given.get("trust_remote_code") == "False"
    reads_weights = "Model" in place or "ForCausalLM" in place or " auto" in place or "_AUTO" in place
    assert given.get("use_safetensors") == ("True" if reads_weights else None)


def test_all_kinds_of_readers_are_looked_at() -> None:
    assert len(LOADS) > 8
    assert any("Tokenizer" in place for place in LOADS)


class Runs:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("reader", ["arbiter", "transformers"])
@pytest.mark.parametrize("evil", [False, True])
def test_pickled_weights_are_refused_with_the_way_to_convert_them(tmp_path: Path, reader: str, evil: bool) -> None:
    folder, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(resolved("pocket:draft"), folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if evil:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"model.norm.weight": Runs(ran)}))
    else:
        torch.save(weights, folder / "pytorch_model.bin")
    if reader == "transformers":  # a setting that Arbiter's own reader does not know
        config = json.loads((folder / "config.json").read_bytes()) | {"mlp_bias": True}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for load in (lambda: open_model(str(folder), "generator"), lambda: open_base(str(folder), 2, "binary")):
        with pytest.raises(BackendError, match=r"Only weights in safetensors files are loaded.*Convert them first"):
            load()
    assert not ran.exists()
