"""The end of a step, inside the agreed tokens and across their join."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.step_tokens import (
    SeparatorTokens,
    StepTokens,
    TokenDecoder,
    agreed_tokens,
    agreement,
    proposed_tokens,
)
from arbiter.backends.token_texts import fast_token_texts
from arbiter.pocket import MODELS
from arbiter.protocols.records import PrefixMatch

TEXTS = ["<end>", "a", "b", "\n", "\n\n", "a\n", "\nb", "ab"]
END = 0
tokens = st.lists(st.integers(0, len(TEXTS) - 1), max_size=12)


class Tokenizer:
    """Tokens are indices into ``TEXTS``. The longest text is matched first."""

    end: int | None = END
    special: frozenset[str] = frozenset()
    as_json: str | None = None

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(TEXTS[token] for token in tokens if token != END)

    def encode(self, text: str, special: bool = True) -> list[int]:
        assert not special
        ids: list[int] = []
        while text:
            token = max((t for t in range(1, len(TEXTS)) if text.startswith(TEXTS[t])), key=lambda t: len(TEXTS[t]))
            ids.append(token)
            text = text[len(TEXTS[token]) :]
        return ids


def step(room: int = 100) -> StepTokens:
    return StepTokens(Tokenizer(), "\n\n", frozenset({END}), room)


@pytest.mark.parametrize(
    ("taken", "room", "text", "ending", "used"),
    [
        ([[1, 2, 4, 1]], 9, "ab", "separator", 3),  # the separator as one token
        ([[5, 6, 1]], 9, "a", "separator", 2),  # across two tokens, with text on both sides
        ([[1, 3], [3, 1]], 9, "a", "separator", 3),  # across the join of agreed and written tokens
        ([[1, 2, END, 1]], 9, "ab", "end", 3),  # the end inside the agreed tokens
        ([[1], [END]], 9, "a", "end", 2),
        ([[1, 2, 1, 2]], 3, "aba", "limit", 3),  # a limit counts the agreed tokens
        ([[1, 2], [1, 2]], 3, "aba", "limit", 3),
        ([[1, END]], 2, "a", "end", 2),  # an end that comes with the last token is the end
        ([[1, 4]], 2, "a", "separator", 2),
        ([[1, 3, 1, 3]], 9, "", None, 4),
    ],
)
def test_a_step_ends_where_its_model_would_have_stopped(
    taken: list[list[int]], room: int, text: str, ending: str | None, used: int
) -> None:
    written = step(room)
    assert any(written.take(part) for part in taken) is (ending is not None)
    assert (written.text, written.ending, len(written.tokens)) == (text, ending, used)


@given(tokens, st.lists(st.integers(0, 12), max_size=3), st.integers(1, 12))
def test_it_does_not_matter_in_how_many_parts_the_tokens_come(ids: list[int], cuts: list[int], room: int) -> None:
    whole, parts = step(room), step(room)
    whole.take(ids)
    places = [0, *sorted(cuts), len(ids)]
    for start, stop in pairwise(places):
        parts.take(ids[start:stop])
    assert (parts.tokens, parts.text, parts.ending) == (whole.tokens, whole.text, whole.ending)


@given(tokens, tokens)
def test_what_is_agreed_on_is_the_models_own(proposed: list[int], own: list[int]) -> None:
    choices = (own + [END] * (len(proposed) + 1))[: len(proposed) + 1]
    taken = agreed_tokens(proposed, choices)
    assert taken == choices[: len(taken)]
    assert 1 <= len(taken) <= len(proposed) + 1
    assert taken[:-1] == proposed[: len(taken) - 1]
    if len(taken) <= len(proposed):
        assert taken[-1] != proposed[len(taken) - 1]


@pytest.mark.parametrize(
    ("proposed", "own", "found"),
    [([1, 2, 1], [1, 2, 2, 1], 2), ([1, 2], [1, 2, 1], 2), ([1, 2, 1], [1, END], 1), ([2], [1], 0), ([1, 1], [1], 1)],
)
def test_agreement_counts_the_beginning_that_both_share(proposed: list[int], own: list[int], found: int) -> None:
    written = step()
    written.take(own)
    assert agreement(proposed, written) == PrefixMatch(len(proposed), found)


def test_a_proposal_ends_as_its_step_did_and_leaves_room_for_a_token() -> None:
    tokenizer = Tokenizer()
    assert proposed_tokens(tokenizer, "ab", "separator", "\n\n", 9) == [7, 4]
    assert proposed_tokens(tokenizer, "ab", "end", "\n\n", 9) == [7]
    assert proposed_tokens(tokenizer, "aa", "separator", "\n\n", 3) == [1, 5]
    assert proposed_tokens(tokenizer, "aa", "separator", "\n\n", 1) == []


class ByteTokens:
    """Tokens are one byte each, or two. A text shows bytes that are no whole character as U+FFFD."""

    def __init__(self, pairs: Sequence[bytes]) -> None:
        self._bytes = [*(bytes([value]) for value in range(256)), *pairs]

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self._bytes[token] for token in tokens).decode("utf-8", "replace")


POCKET = fast_token_texts(MODELS / "draft")
PAIRS = ["né".encode()[:2], "é€".encode()[1:3], "€".encode()[1:], "€\n".encode()[2:], b"\n\n", b"\na", "é".encode()]
BYTES = ByteTokens(PAIRS)
PARTS = [*range(256, 256 + len(PAIRS)), *b"\na n", *"é€".encode()]


def ends_alike(decoder: TokenDecoder, separator: str, ids: Sequence[int], room: int) -> None:
    every = StepTokens(decoder, separator, frozenset(), room)
    some = StepTokens(decoder, separator, frozenset(), room, SeparatorTokens(decoder, separator))
    assert some.take(ids) is every.take(ids)
    assert (some.tokens, some.text, some.ending) == (every.tokens, every.text, every.ending)


@given(st.lists(st.integers(2, 492), max_size=40), st.sampled_from(["\n\n", " ", "e", "1", ": ", "\n", ".\n", "an"]))
def test_a_step_of_the_pocket_tokenizer_ends_at_the_same_token_when_few_tokens_are_looked_at(
    ids: list[int], separator: str
) -> None:
    assert POCKET is not None
    ends_alike(POCKET, separator, ids, 60)


@given(st.lists(st.sampled_from(PARTS), max_size=20), st.sampled_from(["\n\n", "é", "€", "é€", "né", "\n€", "a"]))
def test_a_step_ends_at_the_same_token_when_tokens_split_characters(ids: list[int], separator: str) -> None:
    ends_alike(BYTES, separator, ids, 15)


def test_most_tokens_cannot_complete_a_separator() -> None:
    assert POCKET is not None
    completing = SeparatorTokens(POCKET, "\n\n")
    assert {token for token in range(2, 493) if token in completing} == {
        token for token in range(2, 493) if "\n" in POCKET.decode([token]) or "\ufffd" in POCKET.decode([token])
    }
    assert sum(token in completing for token in range(493)) < 200


def settles(decoder: TokenDecoder, separator: str, ids: Sequence[int]) -> None:
    """Take ``ids``, and check the settled text after each of them."""
    so_far, known = StepTokens(decoder, separator, frozenset(), 15), list[str]()
    for token in ids:
        if so_far.take([token]):
            break
        known.append(so_far.settled_text)
    else:
        so_far.close("end")
    assert all(so_far.text.startswith(text) for text in known)
    assert all(later.startswith(earlier) for earlier, later in pairwise(known))


@given(st.lists(st.sampled_from(PARTS), max_size=20), st.sampled_from(["\n\n", "é", "€", "é€", "né", "\n€", "a"]))
def test_a_settled_text_is_a_beginning_of_the_step_when_tokens_split_characters(ids: list[int], separator: str) -> None:
    settles(BYTES, separator, ids)


@given(st.lists(st.integers(2, 492), max_size=40), st.sampled_from(["\n\n", " ", "e", ": ", "\n", ".\n", "an"]))
def test_a_settled_text_of_the_pocket_tokenizer_is_a_beginning_of_the_step(ids: list[int], separator: str) -> None:
    assert POCKET is not None
    settles(POCKET, separator, ids)
