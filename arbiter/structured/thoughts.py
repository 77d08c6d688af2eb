"""Thoughts of a model: the part of an answer that precedes what it says."""

_OPEN_THOUGHT, CLOSE_THOUGHT = "<think>", "</think>"


def text_after_thought(text: str, in_thought: bool = False) -> str | None:
    """Return the text after the last thought of ``text``; None if a thought never ends.

    ``in_thought`` is True if ``text`` begins within a thought, which the prompt before it opened.
    """
    _, closed, after = text.rpartition(CLOSE_THOUGHT)
    return None if _OPEN_THOUGHT in after or (in_thought and not closed) else after
