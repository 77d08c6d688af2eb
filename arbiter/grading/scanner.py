"""Move through a text from left to right."""

import re

from arbiter.grading.terms import Unreadable

_ARGUMENT = re.compile(r"\s?(?:\{([^{}]*)\}|(\w))")


class Scanner:
    """A text and a position in it. Spaces before the next character are skipped."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skipped(self) -> int:
        """Return the position of the next character."""
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1
        return self.at

    def peek(self) -> str:
        """Return the next character; an empty text at the end."""
        at = self.skipped()
        return self.text[at : at + 1]

    def takes(self, what: str) -> bool:
        """Move behind ``what`` if it is next, and return whether it is. A command ends before a letter."""
        at = self.skipped()
        end = at + len(what)
        if not self.text.startswith(what, at) or (what[-1].isalpha() and self.text[end : end + 1].isalpha()):
            return False
        self.at = end
        return True

    def must_take(self, what: str) -> None:
        """Move behind ``what``. Raises ``Unreadable`` if it is not next."""
        if not self.takes(what):
            raise Unreadable(f"there is no {what!r}")

    def expect_end(self) -> None:
        """Raise ``Unreadable`` unless the text ends here."""
        if self.peek():
            raise Unreadable(f"{self.text[self.at :][:20]!r} is not understood")

    def raw_argument(self) -> str:
        """Move behind the argument of a command, and return its letters and digits. Raises ``Unreadable``."""
        match = _ARGUMENT.match(self.text, self.at)
        if match is None:
            raise Unreadable("a command without its argument")
        self.at = match.end()
        return re.sub(r"\W", "", match[1] or match[2] or "")
