"""Thoughts of a model: the part of an answer that precedes what it says."""

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
