"""A tokenizer without transformers has the tokens and texts of transformers, or is refused."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers is typed in part)

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer

from arbiter.backends.token_texts import FastTokenTexts, TransformersTokenTexts, fast_token_texts
from arbiter.pocket import MODELS, world

DRAFT = MODELS / "draft"


def _fast(folder: Path) -> FastTokenTexts:
    texts = fast_token_texts(folder)
    assert texts is not None
    return texts


FAST = _fast(DRAFT)


@pytest.fixture(scope="module")
def theirs() -> TransformersTokenTexts:
    reader: Any = AutoTokenizer
    return TransformersTokenTexts(reader.from_pretrained(DRAFT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DRAFT / name, tmp_path)
    return tmp_path


def configure(folder: Path, **fields: Any) -> None:
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) | fields
    file.write_text(
        json.dumps({name: value for name, value in settings.items() if value != "absent"}), encoding="utf-8"
    )


@pytest.mark.parametrize("role", ["draft", "target", "router", "prm"])
def test_the_pocket_models_have_a_tokenizer_without_transformers(role: str) -> None:
    assert _fast(MODELS / role).end == 0


def test_the_texts_of_the_pocket_world_have_the_tokens_of_transformers(theirs: TransformersTokenTexts) -> None:
    for problem in itertools.islice(world.problems(3, "test"), 100):
        text = world.PROMPT.format(question=problem.question) + world.SEPARATOR.join(problem.steps)
        ids = FAST.encode(text)
        assert ids == theirs.encode(text)
        assert FAST.decode(ids) == theirs.decode(ids) == text


@given(st.text() | st.text("<|end|>pad \n.,'\t"), st.booleans())
def test_any_text_has_the_tokens_of_transformers(theirs: TransformersTokenTexts, text: str, special: bool) -> None:
    ids = FAST.encode(text, special)
    assert ids == theirs.encode(text, special)
    assert FAST.decode(ids) == theirs.decode(ids)


@given(st.lists(st.integers(0, 492)))
def test_any_tokens_have_the_text_of_transformers(theirs: TransformersTokenTexts, ids: list[int]) -> None:
    assert FAST.decode(ids) == theirs.decode(ids)


def test_both_know_the_same_end(theirs: TransformersTokenTexts) -> None:
    assert FAST.end == theirs.end == 0


def test_a_tokenizer_without_an_end_has_none(folder: Path) -> None:
    configure(folder, eos_token=None)
    assert _fast(folder).end is None


def test_tokens_around_a_text_are_left_out_where_they_are_not_wanted(folder: Path) -> None:
    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|end|> $A", pair="$A $B", special_tokens=[("<|end|>", 0)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    texts = _fast(folder)
    assert texts.encode("1+1") == [0, *texts.encode("1+1", special=False)]


def test_padding_and_truncation_of_the_file_do_not_change_a_text(folder: Path) -> None:
    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert _fast(folder).encode("Compute 12+34.") == FAST.encode("Compute 12+34.")


@pytest.mark.parametrize(
    "fields",
    [
        {"tokenizer_class": "LlamaTokenizer"},
        {"tokenizer_class": "absent"},
        {"clean_up_tokenization_spaces": True},
        {"clean_up_tokenization_spaces": "absent"},
        {"add_bos_token": True},
        {"add_prefix_space": True},
        {"some_setting_of_a_later_version": False},
        {"auto_map": {"AutoTokenizer": ["own.Own", None]}},
        {"bos_token": "<s>"},
        {"eos_token": {"content": "<|end|>", "lstrip": True}},
    ],
)
def test_settings_that_may_change_tokens_leave_the_tokenizer_to_transformers(
    folder: Path, fields: dict[str, Any]
) -> None:
    configure(folder, **fields)
    assert fast_token_texts(folder) is None


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_missing_or_damaged_file_leaves_the_tokenizer_to_transformers(folder: Path, name: str) -> None:
    (folder / name).write_text("{", encoding="utf-8")
    assert fast_token_texts(folder) is None
    (folder / name).unlink()
    assert fast_token_texts(folder) is None


def test_a_large_vocabulary_leaves_the_tokenizer_to_transformers(folder: Path) -> None:
    tokenizer: Any = Tokenizer(models.WordLevel({str(number): number for number in range(100_001)}))
    tokenizer.save(str(folder / "tokenizer.json"))
    configure(folder, **dict.fromkeys(("eos_token", "pad_token"), "absent"))
    assert fast_token_texts(folder) is None
