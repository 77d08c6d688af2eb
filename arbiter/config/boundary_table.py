"""The table that says at which separators a step ends."""

import re
from typing import Literal

from arbiter.config.base import ConfigTable, Count
from arbiter.protocols.errors import ConfigError

BoundaryKind = Literal["separator", "pattern", "sentence", "tokens", "mark"]

MARKS = ("wait", "but", "alternatively", "hmm", "hold on", "let me", "so", "now", "next")
"""Words with which reasoning models begin another thought."""


def ending_with(pattern: str) -> re.Pattern[str]:
    """Return the regular expression that finds ``pattern`` at the end of a text. Raises ``re.error``."""
    flags = re.match(r"\(\?[aimsux]+\)", pattern)
    start = flags.group() if flags else ""
    return re.compile(rf"{start}(?:{pattern[len(start) :]})\Z")


class BoundaryTable(ConfigTable, frozen=True):
    """At which separators a step ends. [Step boundaries](../explanation/boundaries.md) has the rules and their costs.

    ``whole_blocks`` holds as well: no separator in a fenced block of code ends a step.
    """

    kind: BoundaryKind = "separator"
    """``separator``: at each one. ``pattern``: where the text of the step matches a regular expression. ``sentence``:
    after a sentence. ``tokens``: once the step is long enough. ``mark``: before a word that begins another thought."""
    pattern: str = ""
    """The regular expression of ``pattern``, in Python's syntax. It must match the end of the step's text."""
    tokens: Count = 64
    """The fewest tokens of a step, for ``tokens``. The step ends at the first separator after them."""
    marks: tuple[str, ...] = MARKS
    """The words or phrases of ``mark``. Case does not count; a word must stand alone."""

    def check(self, source: str) -> None:
        """Raise ``ConfigError`` naming ``source`` if the kind lacks what it needs."""
        if self.kind == "pattern":
            if not self.pattern:
                raise ConfigError(f"{source}: boundary.kind is 'pattern', and boundary.pattern is empty: set it")
            try:
                ending_with(self.pattern)
            except re.error as error:
                raise ConfigError(f"{source}: boundary.pattern {self.pattern!r}: {error}") from error
        if self.kind == "mark" and not (self.marks and all(mark.strip() for mark in self.marks)):
            raise ConfigError(f"{source}: boundary.marks must have words, none of them blank")

    def deciding(self) -> dict[str, object]:
        """Return the keys that decide where steps end, with their values; none for the usual boundary."""
        if self.kind == "separator":
            return {}
        used = {"pattern": "pattern", "tokens": "tokens", "mark": "marks"}.get(self.kind)
        return {"kind": self.kind, **({} if used is None else {used: getattr(self, used)})}
