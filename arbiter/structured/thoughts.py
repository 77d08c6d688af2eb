"""Thoughts of a model: the part of an answer that precedes what it says."""

from typing import NamedTuple

_OPEN_THOUGHT, CLOSE_THOUGHT = "<think>", "</think>"


def text_after_thought(text: str, in_thought: bool = False) -> str | None:
    """Return the text after the last thought of ``text``; None if a thought never ends.

    ``in_thought`` is True if ``text`` begins within a thought, which the prompt before it opened.
    """
    _, closed, after = text.rpartition(CLOSE_THOUGHT)
    return None if _OPEN_THOUGHT in after or (in_thought and not closed) else after


def text_after_first_thought(text: str, in_thought: bool = False) -> str | None:
    """Return the text after the thought at the beginning of ``text``; None if it never ends, all if there is none.

    The marks of a thought anywhere else are text, such as in the arguments of a call. ``in_thought`` is as in
    ``text_after_thought``.
    """
    if not in_thought and not text.lstrip().startswith(_OPEN_THOUGHT):
        return text
    _, closed, after = text.partition(CLOSE_THOUGHT)
    return after if closed else None


class DividedAnswer(NamedTuple):
    """The thought at the beginning of an answer, and the text after it.

    ``reasoning`` is empty if there is no thought. ``content`` is None if the thought has not ended.
    """

    reasoning: str
    content: str | None


def divided_answer(text: str, in_thought: bool = False) -> DividedAnswer:
    """Divide ``text``, an answer from its beginning, at the first closing mark of its thought.

    Marks, and newlines next to them, belong to neither part. A text without a thought is content, unchanged.
    ``in_thought`` is as in ``text_after_thought``.
    """
    bare = text.lstrip()
    is_marked = bare.startswith(_OPEN_THOUGHT)
    if not (is_marked or in_thought):
        return DividedAnswer("", text)
    inner = bare.removeprefix(_OPEN_THOUGHT) if is_marked else text
    thought, closed, after = inner.partition(CLOSE_THOUGHT)
    return DividedAnswer(thought.strip("\n"), after.lstrip("\n") if closed else None)
