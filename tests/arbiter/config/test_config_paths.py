"""Relative paths in a configuration are relative to its file, and a mistyped one is never looked up at a hub."""

import logging
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from arbiter.backends.opening import required_tables
from arbiter.config.config import Config, load_config
from arbiter.config.data_names import DRAWN, PUBLISHED
from arbiter.config.local_paths import is_same_model
from arbiter.data import drawn_sets
from arbiter.data.known_sets import KNOWN
from arbiter.protocols.errors import ConfigError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def loaded(file: Path, draft: dict[str, Any] | None = None, **keys: Any) -> Config:
    """Load a configuration at ``file`` whose draft has the keys ``draft``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    model = {"model": "gpt2", "prompt": "plain", **(draft or {})}
    file.write_text(tomli_w.dumps({"run_type": "draft", "models": {"draft": model}, **keys}))
    return load_config(str(file))


def made(path: Path) -> str:
    """Make a folder, and return its path."""
    path.mkdir(parents=True)
    return str(path)


def model_of(config: Config) -> str:
    assert config.models.draft is not None
    return config.models.draft.model


def test_a_relative_path_is_relative_to_the_file(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = made(here / "project" / "models" / "small")
    (here / "project" / "own.jsonl").touch()
    config = loaded(
        here / "project" / "mine.toml",
        {"model": "models/small", "tokenizer": "./models/small"},
        data={"source": "own.jsonl"},
    )
    assert config.models.draft is not None
    assert (config.models.draft.model, config.models.draft.tokenizer) == (folder, folder)
    assert config.data.source == str(here / "project" / "own.jsonl")
    assert caplog.records == []


def test_a_path_of_the_working_directory_is_used_with_a_warning(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = made(here / "models" / "small")
    assert model_of(loaded(here / "configs" / "mine.toml", {"model": "models/small"})) == folder
    [warning] = caplog.messages
    assert warning.startswith(f"{here}/configs/mine.toml: models.draft.model: there is no ")
    assert "write '../models/small'" in warning


def test_a_path_in_both_folders_is_the_one_next_to_the_file_with_a_warning(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(here / "models" / "small")
    folder = made(here / "configs" / "models" / "small")
    assert model_of(loaded(here / "configs" / "mine.toml", {"model": "models/small"})) == folder
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen3-0.6B", "pocket:draft"])
def test_a_name_of_the_hub_stays(here: Path, name: str) -> None:
    assert model_of(loaded(here / "mine.toml", {"model": name})) == name


def test_the_name_of_a_served_model_is_no_path(here: Path) -> None:
    made(here / "models" / "small")
    keys = {"backend": "http", "url": "http://localhost:1", "model": "models/small"}
    assert model_of(loaded(here / "mine.toml", keys)) == "models/small"


@pytest.mark.parametrize("source", ["math500", "pocket:3", "owner/name:test", "-", "gsm8k"])
def test_the_name_of_a_data_set_stays(here: Path, source: str) -> None:
    made(here / "gsm8k")
    assert loaded(here / "mine.toml", data={"source": source}).data.source == source


def test_a_folder_of_data_keeps_its_split(here: Path) -> None:
    folder = made(here / "sets" / "mine")
    config = loaded(here / "mine.toml", data={"source": "sets/mine:main:test"})
    assert config.data.source == f"{folder}:main:test"


@pytest.mark.parametrize("tail", ["", ":test", ":main:test"])
def test_a_plain_name_of_a_folder_of_data_becomes_absolute(
    here: Path, tail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(here / "project" / "probs")
    assert loaded(here / "project" / "mine.toml", data={"source": f"probs{tail}"}).data.source == f"{folder}{tail}"
    monkeypatch.chdir(here / "project")
    assert load_config("pocket", {"data": {"source": f"probs{tail}"}}).data.source == f"{folder}{tail}"


def test_a_known_name_is_the_data_set_and_with_a_dot_before_it_the_folder(here: Path) -> None:
    assert set(PUBLISHED) == set(KNOWN)
    assert set(DRAWN) == set(drawn_sets.DRAWN)
    for name in (*PUBLISHED, *DRAWN, "GSM8K", "champ", "pocket-train:3"):
        folder = made(here / name)
        assert loaded(here / "mine.toml", data={"source": name}).data.source == name
        assert loaded(here / "mine.toml", data={"source": f"./{name}"}).data.source == folder


def test_the_python_of_the_sandbox_is_relative_to_the_file_unless_it_is_a_program_of_the_path(here: Path) -> None:
    (here / "project").mkdir()
    (here / "project" / "py").touch()
    for name, meant in {"./py": str(here / "project" / "py"), "python3.11": "python3.11"}.items():
        config = loaded(here / "project" / "mine.toml", data={"sandbox": {"python": name}})
        assert config.data.sandbox.python == meant


def test_a_file_of_examples_may_begin_with_a_byte_order_mark_and_hold_any_character(here: Path) -> None:
    row = '{"question": "1\u2028+1?", "answer": "2"}'
    (here / "shots.jsonl").write_text(f"{row}\r\n\n{row}\n", encoding="utf-8-sig", newline="")
    config = loaded(here / "mine.toml", {"examples": "shots.jsonl"})
    assert config.models.draft is not None
    assert [example.question for example in config.models.draft.examples] == ["1\u2028+1?"] * 2


@pytest.mark.parametrize("name", ["./models/dratf", "models/dratf", "/nowhere/at/all", "~/no-such-model-here"])
def test_a_missing_path_names_the_key_and_is_not_looked_up(here: Path, name: str) -> None:
    made(here / "models" / "draft")
    with pytest.raises(ConfigError, match=r"^models\.draft\.model: there is no file or folder /"):
        required_tables(loaded(here / "mine.toml", {"model": name}))


def test_a_missing_path_is_named_with_similar_ones(here: Path) -> None:
    folder = made(here / "models" / "draft")
    made(here / "models" / "target")
    with pytest.raises(ConfigError, match=rf"did you mean {folder}\?"):
        required_tables(loaded(here / "mine.toml", {"model": "models/dratf"}))
    with pytest.raises(ConfigError, match=rf"{here}/models has draft, target\."):
        required_tables(loaded(here / "mine.toml", {"model": "models/prm"}))
    with pytest.raises(ConfigError, match=r"^models\.draft\.tokenizer: there is no file or folder"):
        required_tables(loaded(here / "mine.toml", {"model": "models/draft", "tokenizer": "./tokens"}))


def test_a_model_of_the_hub_in_the_cache_is_no_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(here / "models")
    made(here / "cache" / "models--models--draft")
    monkeypatch.setenv("HF_HUB_CACHE", str(here / "cache"))
    assert model_of(loaded(here / "mine.toml", {"model": "models/draft"})) == "models/draft"


def test_a_built_in_configuration_and_options_are_relative_to_the_working_directory(here: Path) -> None:
    (here / "own.jsonl").touch()
    config = load_config("pocket", {"data": {"source": "own.jsonl"}})
    assert config.data.source == str(here / "own.jsonl")


def test_a_configuration_of_missing_models_can_be_read(here: Path) -> None:
    assert model_of(loaded(here / "mine.toml", {"model": "/nowhere/model"})) == "/nowhere/model"


@pytest.mark.parametrize(
    ("recorded", "now", "same"),
    [
        ("models/draft", "/home/me/models/draft", True),
        ("../models/draft", "/home/me/models/draft", True),
        ("/gone/models/draft", "/home/me/draft", True),
        ("/gone/models/draft", "/home/me/target", False),
        ("/", "/home/me/draft", False),
        ("models/draft", "/home/me/draft", False),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B", False),
    ],
)
def test_a_model_that_moved_is_the_same(recorded: str, now: str, same: bool) -> None:
    assert is_same_model(recorded, now) is same
