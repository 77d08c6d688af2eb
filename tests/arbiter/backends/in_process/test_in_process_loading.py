"""Loading models, the errors of those that cannot be loaded, and a whole run over loaded models."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch
from safetensors.torch import load_file, save_file

from arbiter.backends.in_process.checkpoint_files import Kind
from arbiter.backends.in_process.model_loading import open_model
from arbiter.config.config import Config
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.runs.bench import bench
from arbiter.runs.folder import read_records
from arbiter.runs.results import Result, Summary
from benchmarks.silent_watcher import SilentWatcher


def refusal(name: str, kind: Kind = "generator", **options: Any) -> str:
    with pytest.raises(BackendError) as caught:
        open_model(name, kind, **options)
    return str(caught.value)


def solve(config: Config, out: Path) -> Summary:
    summary, _ = anyio.run(bench, config, out, SilentWatcher())
    return summary


@pytest.fixture
def tables(writer: Path, classifier: Callable[..., Path]) -> dict[str, Any]:
    folders = {"draft": writer, "target": writer, "prm": classifier(1), "router": classifier(2)}
    return {name: {"model": str(folder), "prompt": "{question}\n", "device": "cpu"} for name, folder in folders.items()}


def test_a_loaded_model_knows_its_name_and_its_context(writer: Path) -> None:
    loaded = open_model(str(writer), "generator", device="cpu")
    assert (loaded.name, loaded.model.context, loaded.labels) == (str(writer), 160, 0)


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_a_head_with_a_bias_that_would_be_left_out_is_refused(classifier: Callable[..., Path], bias: float) -> None:
    folder = classifier(1)
    file = folder / "model.safetensors"
    save_file({**load_file(file), "score.bias": torch.tensor([bias])}, file, metadata={"format": "pt"})
    if bias:
        assert "has a bias, which transformers would ignore" in refusal(str(folder), "scorer")
    else:
        assert open_model(str(folder), "scorer", device="cpu").name == str(folder)


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_on_a_cpu_a_model_is_in_single_precision_unless_told(writer: Path, dtype: str, expected: torch.dtype) -> None:
    slots = open_model(str(writer), "generator", device="cpu", dtype=dtype).model.slots
    assert slots is not None
    assert slots.layers.dtype == expected


@pytest.mark.parametrize("kind", ["generator", "scorer"])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, kind: Kind) -> None:
    name = str(tmp_path / "nowhere")
    assert refusal(name, kind).startswith(f"cannot load the model {name!r} as a {kind} on ")


def test_a_pocket_model_that_does_not_exist_is_named() -> None:
    assert refusal("pocket:nobody").startswith("cannot load the model 'pocket:nobody' as a generator on ")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(str(tmp_path))


def test_a_language_model_is_refused_as_a_scorer(writer: Path) -> None:
    assert str(writer) in refusal(str(writer), "scorer", device="cpu")


def test_damaged_weights_are_named(writer: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(writer, tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert str(folder) in refusal(str(folder), device="cpu")


@pytest.mark.parametrize("device", ["nosuch", "cuda:99"])
def test_a_device_that_is_not_there_is_named(writer: Path, device: str) -> None:
    assert f"on {device}: " in refusal(str(writer), device=device)


def test_a_number_format_that_does_not_exist_is_told_with_the_model(writer: Path) -> None:
    assert str(writer) in refusal(str(writer), device="cpu", dtype="float99")


@pytest.mark.parametrize("run_type", ["draft", "target", "random", "router", "rsd", "oracle", "generate"])
@pytest.mark.slow
def test_a_run_of_any_type_solves_every_problem_with_models_in_process(
    a_config: Callable[..., Config], tables: dict[str, Any], tmp_path: Path, run_type: str
) -> None:
    config = a_config(
        models=tables,
        run_type=run_type,
        cpu_threads=1,
        data={"limit": 3},
        limits={"max_steps": 2, "step_tokens": 6, "max_tokens": 10},
    )
    summary = solve(config, tmp_path)
    assert (summary.problems, summary.failed, summary.graded) == (3, 0, 3)
    assert len(list(read_records(tmp_path / "results.jsonl", Result))) == 3


def test_a_run_calls_only_the_models_of_its_type(
    a_config: Callable[..., Config], tables: dict[str, Any], tmp_path: Path
) -> None:
    broken = {name: {**table, "model": "/nowhere"} for name, table in tables.items() if name != "draft"}
    config = a_config(models={**broken, "draft": tables["draft"]}, run_type="draft", data={"limit": 1})
    assert solve(config, tmp_path).requests.keys() == {"draft"}


def test_a_model_that_cannot_be_loaded_ends_the_run_before_it_starts(
    a_config: Callable[..., Config], tables: dict[str, Any], tmp_path: Path
) -> None:
    (empty := tmp_path / "empty").mkdir()
    for name, error in (("/nowhere", ConfigError), (str(empty), BackendError)):
        config = a_config(models={**tables, "target": {**tables["target"], "model": name}}, run_type="oracle")
        with pytest.raises(error, match=name):
            solve(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == [empty]


def test_a_prompt_without_the_question_ends_the_run_before_it_starts(
    a_config: Callable[..., Config], tables: dict[str, Any], tmp_path: Path
) -> None:
    config = a_config(models={"draft": {**tables["draft"], "prompt": "Solve."}}, run_type="draft")
    with pytest.raises(ConfigError, match="exactly once"):
        solve(config, tmp_path)
    assert list(tmp_path.iterdir()) == []
