"""Thoughts of a model: the part of an answer that precedes what it says."""

from typing import Literal, NamedTuple

from arbiter.structured.partial_marks import settled

OPEN_THOUGHT, CLOSE_THOUGHT = THOUGHT_MARKS = "<think>", "</think>"


def text_after_thought(text: str, in_thought: bool = False) -> str | None:
    """Return the text after the last thought of ``text``; None if a thought never ends.

    ``in_thought`` is True if ``text`` begins within a thought, which the prompt before it opened.
    """
    _, closed, after = text.rpartition(CLOSE_THOUGHT)
    return None if OPEN_THOUGHT in after or (in_thought and not closed) else after


def text_after_first_thought(text: str, in_thought: bool = False) -> str | None:
    """Return the text after the thought at the beginning of ``text``; None if it never ends, all if there is none.

    The marks of a thought anywhere else are text, such as in the arguments of a call. ``in_thought`` is as in
    ``text_after_thought``.
    """
    if not in_thought and not text.lstrip().startswith(OPEN_THOUGHT):
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
    is_marked = bare.startswith(OPEN_THOUGHT)
    if not (is_marked or in_thought):
        return DividedAnswer("", text)
    inner = bare.removeprefix(OPEN_THOUGHT) if is_marked else text
    thought, closed, after = inner.partition(CLOSE_THOUGHT)
    return DividedAnswer(thought.strip("\n"), after.lstrip("\n") if closed else None)


class AnswerDivider:
    """Divides an answer as ``divided_answer`` does, while it arrives in parts.

    ``add`` and ``end`` return what further text adds to the thought, and to the content. Joined, these are the two
    parts of the whole answer. A text that may be the beginning of a mark is held back until it is known.
    """

    def __init__(self, in_thought: bool = False) -> None:
        self._in_thought = in_thought
        self._place: Literal["start", "thought", "content"] = "start"
        self._held = ""
        self._skips_newlines = True  # until the part has its first text

    def add(self, text: str) -> tuple[str, str]:
        """Add text, and return what it adds to the thought and to the content."""
        self._held += text
        if self._place == "start":
            self._begin()
        reasoning = self._thought() if self._place == "thought" else ""
        return reasoning, self._content() if self._place == "content" else ""

    def end(self) -> tuple[str, str]:
        """Return what the end of the answer adds: the text that was held back."""
        if self._place == "start" and not self._in_thought:
            return "", self._take(len(self._held), strips=False)
        return self._take(len(self._held.rstrip("\n"))), ""

    def _begin(self) -> None:
        """Decide in which part the answer begins, if the text that has arrived shows it."""
        bare = self._held.lstrip()
        if OPEN_THOUGHT.startswith(bare) and bare != OPEN_THOUGHT:
            return
        if bare.startswith(OPEN_THOUGHT):
            self._place, self._held = "thought", bare.removeprefix(OPEN_THOUGHT)
        elif self._in_thought:
            self._place = "thought"
        else:
            self._place, self._skips_newlines = "content", False

    def _thought(self) -> str:
        before, closed, after = self._held.partition(CLOSE_THOUGHT)
        if not closed:
            return self._take(len(settled(before, (CLOSE_THOUGHT,)).rstrip("\n")))
        reasoning = self._take(len(before.rstrip("\n")))
        self._place, self._held, self._skips_newlines = "content", after, True
        return reasoning

    def _content(self) -> str:
        return self._take(len(self._held))

    def _take(self, size: int, strips: bool = True) -> str:
        """Return the first ``size`` characters of the text that is held, and hold the others."""
        text, self._held = self._held[:size], self._held[size:]
        if strips and self._skips_newlines:
            text = text.lstrip("\n")
            self._skips_newlines = not text
        return text
