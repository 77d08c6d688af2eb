"""Which part of a text each token adds: they always make up the text, however tokens divide its characters."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.token_alignment import aligned, token_pieces

TEXTS = st.text("ab é世🙂\n", max_size=12)


class ByteTokens:
    """A tokenizer whose tokens are the texts of ``parts``, by index, as bytes."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self._parts[token] for token in tokens).decode(errors="replace")


def divided(text: str, places: set[int]) -> list[bytes]:
    """The bytes of ``text``, divided at the places."""
    data = text.encode()
    cuts = [0, *sorted(place for place in places if 0 < place < len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(cuts) if end > start]


def lossless(part: bytes) -> str:
    """The name of a token as sglang gives it: its text, or its bytes as characters."""
    try:
        return part.decode()
    except UnicodeDecodeError:
        return part.decode("latin-1")


@given(TEXTS, st.sets(st.integers(0, 40)))
def test_the_pieces_of_tokens_make_up_their_text(text: str, places: set[int]) -> None:
    parts = divided(text, places)
    pieces = token_pieces(ByteTokens(parts), range(len(parts)))
    assert "".join(pieces) == text
    assert aligned(pieces, text) is not None


@given(TEXTS, st.sets(st.integers(0, 40)))
def test_tokens_that_are_bytes_of_characters_make_up_the_text(text: str, places: set[int]) -> None:
    names = [lossless(part) for part in divided(text, places)]
    pieces = aligned(names, text)
    assert pieces is not None
    assert "".join(pieces) == text
    assert len(pieces) == len(names)


@pytest.mark.parametrize(
    ("names", "text", "pieces"),
    [
        (["a", " b", "\n\n"], "a b\n\n", ["a", " b", "\n\n"]),
        (["a", " b\n\n\n"], "a b\n\n", ["a", " b\n\n"]),  # the separator ends within a token
        (["a", " b", "</s>"], "a b", ["a", " b"]),
        (["Hello", "world"], "Hello world", ["Hello", " world"]),  # SentencePiece, token by token
        (["", "a"], "a", ["", "a"]),
        (["\ufffd", "\ufffd", "\ufffd", "b"], "世b", ["", "", "世", "b"]),
        ([" \ufffd", "\ufffd"], " 世", ["", " 世"]),
        (["\xe4", "\xb8"], "\ufffd", ["", "\ufffd"]),  # the limit cuts a character
        (["\xe4", "\xb8", "\x96", "\xe4"], "世", ["", "", "世"]),
        (["x"], "", []),
    ],
)
def test_a_token_adds_what_the_text_has_of_it(names: list[str], text: str, pieces: list[str]) -> None:
    assert aligned(names, text) == pieces


@pytest.mark.parametrize(("names", "text"), [(["a"], "ab"), (["b"], "a"), ([], "a"), (["a", "c"], "ab"), (["世"], "a")])
def test_tokens_that_do_not_match_the_text_are_none_of_it(names: list[str], text: str) -> None:
    assert aligned(names, text) is None


def test_the_last_token_adds_a_character_that_is_cut() -> None:
    parts = [b"a", b"\xe4", b"\xb8"]
    assert token_pieces(ByteTokens(parts), range(3)) == ["a", "", "\ufffd"]
