"""In which form a prompt is sent: as a text, or as tokens where a text would become the wrong ones."""

from collections.abc import Callable
from functools import partial

import anyio.to_thread

from arbiter.backends.judge_prompts import LEVELS
from arbiter.backends.prompts import CHAT
from arbiter.backends.token_texts import TransformersTokenTexts, appends_end, prompt_tokens
from arbiter.backends.tokenizers import known_tokenizer, read_tokenizer
from arbiter.config.model_tables import ServedTable, is_chat
from arbiter.protocols.errors import ConfigError

PromptForm = Callable[[str], str | list[int]]


def as_text(text: str) -> str:
    """Return the text itself."""
    return text


def prompt_tokenizer(table: ServedTable) -> str | None:
    """Return the tokenizer of the table's prompts: that of its chat template, or the known one. None without either."""
    if is_chat(table):
        return None
    return table.tokenizer or table.model if table.prompt in (CHAT, LEVELS) else known_tokenizer(table)


async def prompt_texts(table: ServedTable) -> TransformersTokenTexts | None:
    """Return the tokenizer of the table's prompts; None if it is not known.

    A tokenizer that cannot be read counts as not known: it is reported where it is needed.
    """
    name = prompt_tokenizer(table)

    def read() -> TransformersTokenTexts | None:
        try:
            return TransformersTokenTexts(read_tokenizer(name or "", "tokenizer", "leave it out"))
        except ConfigError:
            return None

    return await anyio.to_thread.run_sync(read) if name else None


def prompt_form(texts: TransformersTokenTexts | None) -> PromptForm:
    """Return how the prompts of a model with the tokenizer ``texts`` are sent.

    They are sent as tokens if the tokenizer appends an end token to a text: the server would append it too, and the
    model would continue after the end.
    """
    return partial(prompt_tokens, texts) if texts and appends_end(texts) else as_text


def prompt_counter(texts: TransformersTokenTexts | None) -> Callable[[str], int] | None:
    """Return how the tokens of a prompt are counted; None if the tokenizer is not known."""
    return None if texts is None else lambda text: len(prompt_tokens(texts, text))
