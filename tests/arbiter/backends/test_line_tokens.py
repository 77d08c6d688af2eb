"""Texts that are tokenised line by line have the tokens of the whole text, or are tokenised as a whole."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (tokenizers is typed in part)

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from arbiter.backends.line_tokens import LineTokens, separates_lines
from arbiter.backends.token_texts import FastTokenTexts
from arbiter.pocket import MODELS, world

TEXTS = [
    f"{world.PROMPT.format(question=problem.question)}{world.SEPARATOR.join(problem.steps)}\r\n \n\n's it  {{1}}\n\n"
    for problem in itertools.islice(world.problems(5, "train"), 200)
]
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KNOWN = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(LLAMA_3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)


def trained(cutting: Any = KNOWN, normalizer: Any = None) -> Tokenizer:
    """Return a byte-pair encoding of pocket texts, which cuts texts into pieces by ``cutting``."""
    made: Any = Tokenizer(models.BPE())
    made.normalizer = normalizer
    made.pre_tokenizer = cutting
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False))
    made.add_special_tokens([AddedToken("<|end|>", normalized=False)])
    return made


def beginning_with_end(tokenizer: Tokenizer) -> Tokenizer:
    end = tokenizer.token_to_id("<|end|>")
    changed: Any = tokenizer
    changed.post_processor = processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", end)])
    return tokenizer


KNOWN_ONES = {
    "pocket": Tokenizer.from_file(str(MODELS / "draft" / "tokenizer.json")),
    "digits in threes, a token before the text": beginning_with_end(trained()),
    "normalised": trained(normalizer=normalizers.NFC()),
}
PIECES = st.sampled_from(
    [
        "\n",
        "\n\n",
        "\r\n",
        " ",
        "\t",
        "'s",
        "'",
        "1",
        "12",
        "word",
        "é",
        "e\u0301",
        "\u0301",
        "\x85",
        "\xa0",
        ".",
        "<|end|>",
    ]
)
TEXT = st.lists(PIECES | st.text(max_size=2), max_size=12).map("".join)


@pytest.mark.parametrize("name", KNOWN_ONES)
@given(st.lists(TEXT, min_size=1, max_size=4), st.booleans())
def test_any_text_has_the_tokens_of_the_whole_text_also_when_it_grows(
    name: str, parts: list[str], special: bool
) -> None:
    tokenizer = KNOWN_ONES[name]
    texts = FastTokenTexts(tokenizer, None)
    for text in itertools.accumulate(parts):
        assert texts.encode(text, special) == tokenizer.encode(text, add_special_tokens=special).ids


def test_a_line_that_is_known_is_not_tokenised_again() -> None:
    seen: list[str] = []

    def encode(text: str, special: bool) -> list[int]:
        seen.append(text)
        return [len(text)] if special else [0, len(text)]

    lines = LineTokens(encode)
    assert lines.encode("one\n\n", True) == [5]
    assert lines.encode("one\n\ntwo\n", True) == [5, 0, 4]
    assert lines.encode("one\n\ntwo\nthree", True) == [5, 0, 4, 0, 5]
    assert seen == ["one\n\n", "two\n", "three"]


def test_a_line_of_more_than_1024_characters_is_not_kept_and_has_the_tokens_of_the_whole_text() -> None:
    seen: list[str] = []
    tokenizer = KNOWN_ONES["pocket"]

    def encode(text: str, special: bool) -> list[int]:
        seen.append(text)
        return tokenizer.encode(text, add_special_tokens=special).ids

    lines, kept, long = LineTokens(encode), "1" * 1023 + "\n", "2" * 1024 + "\n"
    for _ in range(2):
        assert lines.encode(kept + long + kept, True) == tokenizer.encode(kept + long + kept).ids
    assert seen == [kept, long, kept, long]


def test_what_the_caller_does_to_the_tokens_does_not_change_the_next_answer() -> None:
    texts = FastTokenTexts(KNOWN_ONES["pocket"], None)
    expected = texts.encode("one\n").copy()
    texts.encode("one\n").append(7)
    assert texts.encode("one\n") == expected


def gpt2() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def with_dropout() -> Tokenizer:
    made: Any = trained()
    made.model.dropout = 0.5
    return made


def with_added(**flags: bool) -> Tokenizer:
    made = trained()
    made.add_tokens([AddedToken("<x>", **flags)])
    return made


def with_added_line() -> Tokenizer:
    made = trained()
    made.add_tokens(["\nEnd"])
    return made


def ending_with_end() -> Tokenizer:
    made: Any = trained()
    end = made.token_to_id("<|end|>")
    made.post_processor = processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", end)])
    return made


UNKNOWN_ONES: dict[str, Callable[[], Tokenizer]] = {
    "merges newlines by what follows": lambda: trained(gpt2()),
    "merges over lines": lambda: trained(pre_tokenizers.Metaspace()),
    "draws its merges": with_dropout,
    "strips the space before a token": lambda: with_added(lstrip=True),
    "strips the space after a token": lambda: with_added(rstrip=True),
    "looks at the neighbours of a token": lambda: with_added(single_word=True),
    "has a token of two lines": with_added_line,
    "adds a token after the text": ending_with_end,
    "changes spaces": lambda: trained(normalizer=normalizers.Strip()),
    "knows words": lambda: Tokenizer(models.WordLevel({"a": 0}, "a")),
}


@pytest.mark.parametrize("name", UNKNOWN_ONES)
def test_a_tokenizer_whose_lines_may_depend_on_each_other_gets_whole_texts(name: str) -> None:
    assert not separates_lines(UNKNOWN_ONES[name]())


def test_texts_of_a_tokenizer_that_merges_newlines_have_the_tokens_of_the_whole_text() -> None:
    tokenizer = trained(gpt2())
    texts = FastTokenTexts(tokenizer, None)
    text = "One step.\n\nAnother one.\n\n"
    assert texts.encode(text) == tokenizer.encode(text).ids
    alone = [token for line in ("One step.\n\n", "Another one.\n\n") for token in tokenizer.encode(line).ids]
    assert alone != tokenizer.encode(text).ids
