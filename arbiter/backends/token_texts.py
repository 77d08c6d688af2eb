"""Turn texts into tokens and back: a tokenizer of transformers, or the same one without transformers.

Needs the extra ``pocket``.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers is typed in part)

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from arbiter.backends.line_tokens import LineTokens, separates_lines
from arbiter.protocols.errors import BackendError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ALIKE = ("TokenizersBackend", "PreTrainedTokenizerFast")  # classes that only apply tokenizer.json
_SPECIAL = ("eos_token", "pad_token", "bos_token", "unk_token")
# settings of tokenizer_config.json that do not change the tokens of a text, or are checked here
_PLAIN = {
    "backend",
    "chat_template",
    "clean_up_tokenization_spaces",
    "is_local",
    "local_files_only",
    "model_max_length",
    "padding_side",
    "tokenizer_class",
    "truncation_side",
}
_THOUGHT_MARKS = ("<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>")  # the last one of gpt-oss
_FINAL = "<|channel|>final<|message|>"
"""The end of a prompt that opens the answer of gpt-oss itself, so that no thought is written."""
_LARGEST = 100_000  # transformers may patch the patterns of larger vocabularies


class TokenTexts(Protocol):
    """A model's tokenizer. ``end`` is its end-of-text token, if it has one."""

    end: int | None

    @property
    def special(self) -> frozenset[str]:
        """The special tokens, as texts."""
        ...

    @property
    def as_json(self) -> str | None:
        """The tokenizer as the text of a ``tokenizer.json``; None if it cannot be written as one."""
        ...

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Return the tokens of ``text``; with ``special``, also those that the model expects around a text."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``, without special tokens."""
        ...


def prompt_tokens(texts: TokenTexts, text: str) -> list[int]:
    """Return the tokens of a text that a model continues: an end token that the tokenizer appends is left out."""
    ids = texts.encode(text)
    end = texts.end
    if end is not None and ids[-1:] == [end] and _count_ends(ids, end) > _count_ends(texts.encode(text, False), end):
        ids.pop()
    return ids


def refuse_special_marks(texts: TokenTexts, model: str, prompt: str = "") -> None:
    """Raise ``BackendError``, which begins with ``model``, if the marks of thoughts are special tokens.

    Decoded texts leave special tokens out. Thought and answer of such a model could not be told apart, and the context
    of its next step would lack the marks. A ``prompt`` that opens the answer itself leaves no place for a thought.
    """
    if prompt.endswith(_FINAL):
        return
    if marks := [mark for mark in _THOUGHT_MARKS if mark in texts.special]:
        raise BackendError(
            f"{model}: its tokenizer has thought marks that are special tokens ({', '.join(marks)}), which texts leave "
            "out. Thoughts of such a model are not supported: use a model whose marks are text, as those of Qwen3 and "
            f"DeepSeek-R1 are, or a prompt that ends with {_FINAL} for gpt-oss without thoughts"
        )


def appends_end(texts: TokenTexts) -> bool:
    """Return whether the tokenizer appends its end token to a text."""
    return len(prompt_tokens(texts, "a")) < len(texts.encode("a"))


def _count_ends(ids: Sequence[int], end: int) -> int:
    """Return how many tokens ``end`` are at the end of ``ids``."""
    return next((number for number, token in enumerate(reversed(ids)) if token != end), len(ids))


class FastTokenTexts:
    """The tokenizer of a ``tokenizer.json``."""

    def __init__(self, tokenizer: "Tokenizer", end: int | None) -> None:
        self._tokenizer = tokenizer
        self._lines = LineTokens(self._encode) if separates_lines(tokenizer) else None
        self.end = end

    @property
    def special(self) -> frozenset[str]:
        """The special tokens, as texts."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return frozenset(token.content for token in added if token.special)

    @property
    def as_json(self) -> str | None:
        """The text of a ``tokenizer.json``."""
        return self._tokenizer.to_str()

    def encode(self, text: str, special: bool = True) -> list[int]:
        return self._encode(text, special) if self._lines is None else self._lines.encode(text, special)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def _encode(self, text: str, special: bool) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=special).ids


class TransformersTokenTexts:
    """A tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers' own classes
        self._tokenizer = tokenizer
        tokenizer.clean_up_tokenization_spaces = False  # else "x != y" may lose a space
        known = tokenizer.is_fast and separates_lines(tokenizer.backend_tokenizer)
        self._lines = LineTokens(self._encode) if known else None
        self.end = cast("int | None", tokenizer.eos_token_id)

    @property
    def special(self) -> frozenset[str]:
        """The special tokens, as texts."""
        added = self._tokenizer.added_tokens_decoder.values()
        return frozenset([*self._tokenizer.all_special_tokens, *(token.content for token in added if token.special)])

    @property
    def as_json(self) -> str | None:
        """The text of a ``tokenizer.json``; None for a tokenizer that is written in Python."""
        return self._tokenizer.backend_tokenizer.to_str() if self._tokenizer.is_fast else None

    def encode(self, text: str, special: bool = True) -> list[int]:
        return self._encode(text, special) if self._lines is None else self._lines.encode(text, special)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _encode(self, text: str, special: bool) -> list[int]:
        return self._tokenizer(text, add_special_tokens=special)["input_ids"]


def fast_token_texts(folder: Path) -> FastTokenTexts | None:
    """Return the tokenizer of a checkpoint folder, if ``tokenizer.json`` alone says what transformers would do."""
    from tokenizers import Tokenizer

    if (folder / "special_tokens_map.json").exists():
        return None  # older folders name further special tokens there
    try:
        settings: dict[str, Any] = msgspec.json.decode((folder / "tokenizer_config.json").read_bytes(), type=dict)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # tokenizers raises plain exceptions; transformers then reports what is wrong
        return None
    named = [settings[name] for name in _SPECIAL if settings.get(name) is not None]
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    if (
        settings.get("tokenizer_class") not in _ALIKE
        or settings.get("clean_up_tokenization_spaces") is not False
        or not settings.keys() <= _PLAIN.union(_SPECIAL)
        or not all(isinstance(token, str) and token in special for token in named)
        or tokenizer.get_vocab_size() > _LARGEST
    ):
        return None
    end = settings.get("eos_token")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return FastTokenTexts(tokenizer, tokenizer.token_to_id(end) if end else None)
