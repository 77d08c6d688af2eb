"""Narrow a request to the tokens that the context of a model leaves, and find out where a server cut a text."""

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.records import Usage

Answered = TypeVar("Answered")

_N = r"(?<!\d)(\d{1,3}(?:,\d{3})+|\d+)"  # "4096" or "4,096"
_CONTEXT = re.compile(
    rf"(?:context (?:length|window|size|limit)|allowed length|must be <=)[^\d]{{0,20}}{_N}(?!,?\d| \+)"
    rf"|\d \+ [\d,]+ > {_N}",
    re.IGNORECASE,
)
# the exact tokens of the prompt, but not "at least 925 input tokens"
_PROMPT = re.compile(
    rf"{_N} tokens from the input|{_N} in (?:your|the) (?:prompt|messages)|{_N} `inputs` tokens"
    rf"|request has {_N} input tokens|{_N} \+ [\d,]+ > \d",
    re.IGNORECASE,
)


async def within_context(
    attempt: Callable[[int], Awaitable[tuple[Answered, Usage]]], most: int, context: int | None
) -> tuple[Answered, Usage, Usage]:
    """Return the answer of ``attempt(most)``, its tokens, and those of requests that only counted the prompt.

    If the server refuses that number of tokens, fewer are requested: what ``context`` leaves, or the context that the
    refusal names. If the refusal does not name the tokens of the prompt, a request of one token counts them. Raises
    ``ContextTooLongError`` if not even one token fits, or if the context is unknown.
    """
    try:
        return *await attempt(most), Usage()
    except ContextTooLongError as error:
        refused = error
    if most <= 1:
        raise refused
    limit, prompt, spent = _number(_CONTEXT, str(refused)) or context, _number(_PROMPT, str(refused)), Usage()
    if limit and not prompt:
        _, spent = await attempt(1)
        prompt = spent.prompt_tokens
    if not (limit and prompt):
        raise refused
    for room in (limit - prompt, limit - prompt - 1):  # some engines keep a token free
        if 0 < room < most:
            try:
                return *await attempt(room), spent
            except ContextTooLongError:
                continue
    raise refused


def refuse_cut(read: int, context: int | None, where: str) -> None:
    """Raise ``BackendError`` if a text of ``read`` tokens fills the context of the server ``where``.

    A server that cuts longer texts without an error counts exactly its context.
    """
    if context and read >= context:
        raise BackendError(
            f"{where} read {read} tokens, as many as its context holds ({context}): it cuts longer texts. Start the "
            "server without the option for that (sglang: --allow-auto-truncate), give it a longer context, or lower "
            "limits.max_tokens"
        )


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return next((int(group.replace(",", "")) for group in found.groups() if group), None) if found else None
