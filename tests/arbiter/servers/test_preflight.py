"""What a machine lacks is reported before any server starts."""

import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from arbiter.protocols.errors import ConfigError
from arbiter.servers.plan_types import Launch
from arbiter.servers.preflight import check

ALaunch = Callable[..., Launch]


def refused(launch: Launch, gpus: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as error:
        check([launch], gpus)
    return str(error.value)


def with_path(launch: Launch, path: Path | str) -> Launch:
    return msgspec.structs.replace(launch, path=str(path))


def on(launch: Launch, *gpus: int) -> Launch:
    return msgspec.structs.replace(launch, gpus=gpus)


def test_a_machine_without_a_gpu_is_told_of_the_cpu(a_launch: ALaunch) -> None:
    message = refused(on(a_launch(), 0))
    assert message.startswith("mine.toml: models.draft.server: this machine has no GPU")
    assert 'device = "cpu"' in message


def test_a_gpu_that_is_not_there_is_named_with_those_that_are(a_launch: ALaunch) -> None:
    assert "gpus names GPU 2, but this machine has 2: 0, 1" in refused(on(a_launch(), 1, 2), ("0", "1"))


def test_gpus_that_are_there_are_taken(a_launch: ALaunch) -> None:
    check([on(a_launch(), 0, 1)], ("4", "5"))


def test_a_port_in_use_is_named(a_launch: ALaunch) -> None:
    launch = a_launch()
    with socket.socket() as taken:
        taken.bind((launch.host, launch.port))
        taken.listen()
        message = refused(launch)
    assert message.startswith(f"mine.toml: models.draft.url: draft cannot listen on 127.0.0.1:{launch.port}")
    check([launch], ())


def test_a_folder_without_a_model_is_named(a_launch: ALaunch, tmp_path: Path) -> None:
    assert "models.draft.server.path" in refused(with_path(a_launch(), tmp_path))
    assert "it has no config.json" in refused(with_path(a_launch(), tmp_path))


def test_a_folder_without_weights_is_named(a_launch: ALaunch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert f"{tmp_path} has no weights" in refused(with_path(a_launch(), tmp_path))


@pytest.mark.parametrize("path", ["/nowhere/at/all", "./here", "~/there", "some/q4.gguf"])
def test_a_local_path_that_is_not_there_is_named(a_launch: ALaunch, path: str) -> None:
    assert f"there is no file or folder {path!r}" in refused(with_path(a_launch(), path))


def test_a_whole_checkpoint_a_file_and_a_hub_name_are_taken(a_launch: ALaunch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model-00001-of-00002.safetensors"
    weights.write_bytes(b"")
    check([with_path(a_launch(), path) for path in (tmp_path, weights, "Qwen/Qwen3-0.6B")], ())


def test_a_folder_that_is_missing_among_others_is_no_hub_name(
    a_launch: ALaunch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check([with_path(a_launch(), "models/prm")], ())
    (tmp_path / "models").mkdir()
    assert "there is no file or folder 'models/prm'" in refused(with_path(a_launch(), "models/prm"))
