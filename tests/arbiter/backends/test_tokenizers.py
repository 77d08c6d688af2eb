"""A served model's tokenizer, and the tokens that end its answers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import arbiter.pocket
from arbiter.backends.token_texts import TransformersTokenTexts
from arbiter.backends.tokenizers import end_tokens, read_tokenizer
from arbiter.config.model_tables import Engine
from arbiter.protocols.errors import ConfigError

POCKET = Path(arbiter.pocket.__file__).parent / "models" / "target"
Folder = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return a model folder with the given files and the pocket tokenizer, whose end token is 0."""

    def build(**files: dict[str, Any]) -> str:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(POCKET / name, tmp_path)
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        return str(tmp_path)

    return build


@pytest.mark.parametrize(
    ("engine", "files", "ends"),
    [
        ("sglang", {}, {0}),
        ("vllm", {}, {0}),
        ("sglang", {"generation_config": {"eos_token_id": [3, 4]}}, {0, 3, 4}),
        ("vllm", {"generation_config": {"eos_token_id": [3, 4]}}, {0, 3, 4}),
        ("sglang", {"generation_config": {"eos_token_id": 3}, "config": {"eos_token_id": 5}}, {0, 3, 5}),
        ("vllm", {"generation_config": {"eos_token_id": 3}, "config": {"eos_token_id": 5}}, {0, 3}),
        ("sglang", {"config": {"eos_token_id": [5, 6]}}, {0, 5, 6}),
        ("vllm", {"config": {"eos_token_id": [5, 6]}}, {0, 5, 6}),
        (
            "sglang",
            {"generation_config": {}, "config": {"model_type": "unknown", "auto_map": {"AutoConfig": "x.Y"}}},
            {0},
        ),
    ],
)
def test_an_answer_ends_at_the_tokens_that_the_engine_heeds(
    engine: Engine, files: dict[str, dict[str, Any]], ends: set[int], folder: Folder
) -> None:
    name = folder(**files)
    assert end_tokens(name, read_tokenizer(name, "verifies", "do without"), engine) == ends


def test_a_tokenizer_that_cannot_be_read_is_told_with_the_key_that_wants_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_tokenizer(str(tmp_path / "none"), "models.target.verifies", "leave verifies out")
    assert str(caught.value).startswith("models.target.verifies: cannot read the tokenizer ")
    assert str(caught.value).endswith(". Set tokenizer to a folder or a hub name, or leave verifies out")


def test_a_tokenizers_own_code_is_not_run(folder: Folder, tmp_path: Path) -> None:
    name = folder(config={"model_type": "mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}})
    settings = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / "mine.py").write_text("raise SystemExit('it was run')", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot read the tokenizer"):
        read_tokenizer(name, "verifies", "do without")


def test_spaces_before_signs_stay_whatever_the_checkpoint_says(folder: Folder) -> None:
    settings = json.loads((POCKET / "tokenizer_config.json").read_text(encoding="utf-8"))
    name = folder(tokenizer_config={**settings, "clean_up_tokenization_spaces": True})
    cleaning: Any = AutoTokenizer
    for tokenizer in (read_tokenizer(name, "chat", "do without"), cleaning.from_pretrained(name)):
        texts = TransformersTokenTexts(tokenizer)
        assert texts.decode(texts.encode("1 . 2 , 3", special=False)) == "1 . 2 , 3"
