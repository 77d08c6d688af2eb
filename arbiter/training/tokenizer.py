"""The pocket tokenizer: byte-level BPE with real merges, and the pre-tokenization of Llama 3.

Digits stay single tokens. Punctuation merges with the newlines after it (``.\\n\\n`` is one token), so a step's
separator may be part of a token, as in production tokenizers.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (transformers is typed in part)

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END = "<|end|>"
PAD = "<|pad|>"

# Llama 3's pattern with \p{N} instead of \p{N}{1,3}: arithmetic needs separate digits.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'Problem: ' + message['content'] + '\nSolution:\n' }}"
    "{% else %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
)


class EncodedText:
    """A tokenizer for training: the token ids of texts and digits, and the two special tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.end = cast("int", tokenizer.eos_token_id)
        self.pad = cast("int", tokenizer.pad_token_id)
        self.digits = [self.ids(digit)[0] for digit in "0123456789"]
        self.longest = cast("int", tokenizer.model_max_length)

    @classmethod
    def load(cls, folder: Path) -> "EncodedText":
        return cls(PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False))

    def ids(self, text: str) -> list[int]:
        return cast("list[int]", self.tokenizer(text)["input_ids"])


def train_tokenizer(texts: Iterable[str], vocabulary: int, longest: int) -> PreTrainedTokenizerFast:
    """Learn merges from ``texts``. ``longest`` is the context length of the models, in tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        truncation_side="left",
        model_max_length=longest,
        chat_template=_CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
