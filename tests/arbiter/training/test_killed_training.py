"""A training that is killed at any moment is resumed, and reaches the weights of one that was never killed."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from arbiter.backends.head_model import METADATA, HeadMetadata, load_head
from arbiter.data.training_rows import TrainingRow
from arbiter.pocket import world
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.training import complete_files
from arbiter.training.checkpoint import claim
from arbiter.training.complete_files import WRITING, newest_state, publish_state, together
from arbiter.training.head_networks import HeadNetwork, save_head
from arbiter.training.router_training import RouterSettings, train_router


class Killed(BaseException):
    """Stands for a SIGKILL: no code of the project catches it, and nothing is cleaned up."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function: the process ends at the operation on files with the given number, from 0, after now."""
    left = [-1]

    def killing(operation: Callable[..., Any]) -> Callable[..., Any]:
        def perform(*values: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == -1:
                raise Killed
            return operation(*values, **named)

        return perform

    def at(number: int) -> None:
        left[0] = number

    places: list[tuple[Any, str]] = [(torch, "save"), (os, "rename"), (os, "replace"), (os, "fsync")]
    for module, name in (*places, (shutil, "rmtree")):
        monkeypatch.setattr(module, name, killing(getattr(module, name)))
    for name in ("write_text", "write_bytes", "mkdir", "unlink", "rmdir"):
        monkeypatch.setattr(Path, name, killing(getattr(Path, name)))
    return at


@pytest.fixture
def settings(prm: Path) -> RouterSettings:
    return RouterSettings(base=str(prm), prompt=world.PROMPT, epochs=1, batch=16, learning_rate=1e-3)


@pytest.mark.nightly
def test_a_training_killed_at_any_operation_on_files_comes_to_the_same_weights_or_has_finished(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path, kill_at: Callable[[int], None]
) -> None:
    done = train_router(settings, rows, tmp_path / "whole")
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    kills = 0
    while True:
        out = tmp_path / f"killed-{kills}"
        kill_at(kills)
        try:
            train_router(settings, rows, out)
        except Killed:
            kill_at(-1)
        else:
            break
        kills += 1
        assert train_router(settings, rows, out, resume=True) == done
        found = load_file(out / "model.safetensors")
        assert all(torch.equal(whole[name], found[name]) for name in whole)
        assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
        shutil.rmtree(out)
    assert kills > 40


@pytest.mark.slow
def test_a_training_that_saved_nothing_starts_from_the_beginning_and_a_finished_one_stays(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path, kill_at: Callable[[int], None]
) -> None:
    done = train_router(settings, rows, tmp_path / "never started", resume=True)
    kill_at(3)
    with pytest.raises(Killed):
        train_router(settings, rows, tmp_path / "killed")
    kill_at(-1)
    assert train_router(settings, rows, tmp_path / "killed", resume=True) == done
    written = (tmp_path / "killed" / "model.safetensors").stat().st_mtime_ns
    assert train_router(settings, rows, tmp_path / "killed", resume=True) == done
    assert (tmp_path / "killed" / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(ConfigError, match=r"seed was 0 in .*, but is 7 now"):
        train_router(msgspec.structs.replace(settings, seed=7), rows, tmp_path / "killed", resume=True)


@pytest.mark.nightly
def test_a_full_disk_while_a_state_is_saved_is_reported_and_the_training_resumed(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_router(settings, rows, tmp_path / "whole")
    save = torch.save

    def failing(*values: Any, **named: Any) -> None:
        if "checkpoint-2/rng_state" in str(values[1]):
            raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
        save(*values, **named)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", failing)
        with pytest.raises(RunError, match=r"cannot write a checkpoint of the training into .*unexpected pos"):
            train_router(settings, rows, tmp_path / "cut")
    found = newest_state(tmp_path / "cut" / "checkpoints")
    assert found is not None
    assert found.name == "checkpoint-1"
    train_router(settings, rows, tmp_path / "cut", resume=True)
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_folder_without_a_training_is_not_resumed(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no training"):
        train_router(settings, rows, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_newest_state_is_the_one_with_most_updates_and_a_partial_one_is_none(tmp_path: Path) -> None:
    for name in ("checkpoint-9", "checkpoint-10", f"{WRITING}/checkpoint-11", "checkpoint-x"):
        (tmp_path / name).mkdir(parents=True)
    assert newest_state(tmp_path) == tmp_path / "checkpoint-10"
    publish_state(tmp_path / WRITING / "checkpoint-11", tmp_path)
    assert newest_state(tmp_path) == tmp_path / "checkpoint-11"
    assert not (tmp_path / "checkpoint-10").exists()
    assert newest_state(tmp_path / "nowhere") is None


def test_files_come_together_whenever_the_process_is_killed(tmp_path: Path, kill_at: Callable[[int], None]) -> None:
    for number in range(100):
        out = tmp_path / str(number)
        out.mkdir()
        kill_at(number)
        try:
            with together(out, "z.json") as folder:
                (folder / "weights").write_bytes(b"1")
                (folder / "z.json").write_bytes(b"2")
        except Killed:
            kill_at(-1)
            assert not (out / "z.json").exists() or (out / "weights").exists()
            assert complete_files.is_unfinished(out, "z.json") or not any(out.iterdir()) or (out / "z.json").exists()
        else:
            assert {path.name for path in out.iterdir()} == {"weights", "z.json"}
            break
    else:
        raise AssertionError("it never ended")


def test_a_head_whose_writing_was_killed_is_trained_again_in_its_folder(
    tmp_path: Path, kill_at: Callable[[int], None]
) -> None:
    network = HeadNetwork("linear", torch.randn(9, 10, dtype=torch.float64), 1)
    metadata = HeadMetadata(draft="d", prompt="{question}", separator="\n", features="logprobs", shape="linear")
    kill_at(4)
    with pytest.raises(Killed):
        save_head(network, metadata, tmp_path)
    kill_at(-1)
    assert not (tmp_path / METADATA).exists()
    claim(tmp_path, resume=False)
    save_head(network, metadata, tmp_path)
    assert load_head(str(tmp_path)).metadata == metadata
    with pytest.raises(ConfigError, match="already exists"):
        claim(tmp_path, resume=False)
