"""Where steps end: rules that say at which separators of an answer a step ends. Pure functions of the text.

``docs/explanation/boundaries.md`` says when to use which.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import msgspec

from arbiter.config.boundary_table import ending_with

IsOpen = Callable[[str], bool]
"""Returns whether a block is open at the end of a text. The text is an answer so far, from its beginning."""

_SENTENCE = re.compile(r"[.!?…。！？][\"'”’)\]*_$]*\s*\Z")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|cf|vs|Mr|Mrs|Ms|Dr|Prof|Fig|Eq|No|approx)|(?:\A|\s)[A-Z])\.\s*\Z")
_NUMBERED = re.compile(r"(?:\A|\n)\s*\d+\.\s*\Z")  # the number of an item in a list


_ending_with = lru_cache(maxsize=64)(ending_with)


class SeparatorPlace(msgspec.Struct, frozen=True):
    """A separator that a model has written.

    ``answer`` is the whole answer up to it, with it. ``step`` is the text of the step so far, without it, of ``tokens``
    tokens. ``ahead`` is the text that follows it, up to the next separator or the end; None if it is not known.
    """

    answer: str
    step: str
    tokens: int = 0
    ahead: str | None = None


class StepBoundary(Protocol):
    """Says at which separators a step ends."""

    @property
    def looks_ahead(self) -> bool:
        """Whether ``ends`` needs the text after the separator."""
        ...

    def ends(self, place: SeparatorPlace) -> bool:
        """Return whether the step ends at this separator. It depends on nothing else."""
        ...


class OutsideBlocks(msgspec.Struct, frozen=True):
    """A step ends at a separator outside of blocks: where ``is_open`` says that none is open."""

    is_open: IsOpen
    looks_ahead: bool = False

    def ends(self, place: SeparatorPlace) -> bool:
        return not self.is_open(place.answer)


class AfterPattern(msgspec.Struct, frozen=True):
    """A step ends where a regular expression matches the end of its text."""

    pattern: str
    looks_ahead: bool = False

    def ends(self, place: SeparatorPlace) -> bool:
        return _ending_with(self.pattern).search(place.step) is not None


class AfterSentence(msgspec.Struct, frozen=True):
    """A step ends after a sentence: not after an abbreviation, an initial, or the number of an item in a list."""

    looks_ahead: bool = False

    def ends(self, place: SeparatorPlace) -> bool:
        text = place.step
        is_dot = _ABBREVIATION.search(text) is not None or _NUMBERED.search(text) is not None
        return _SENTENCE.search(text) is not None and not is_dot


class AfterTokens(msgspec.Struct, frozen=True):
    """A step ends at the first separator after which it has ``tokens`` tokens or more."""

    tokens: int
    looks_ahead: bool = False

    def ends(self, place: SeparatorPlace) -> bool:
        return place.tokens >= self.tokens


class BeforeMark(msgspec.Struct, frozen=True):
    """A step ends before a text that begins with one of ``marks``, in any case, and standing alone."""

    marks: tuple[str, ...]
    looks_ahead: bool = True

    def ends(self, place: SeparatorPlace) -> bool:
        begins = (place.ahead or "").lstrip().casefold()
        found = (mark for mark in self.marks if begins.startswith(mark.casefold()))
        return any(not begins[len(mark.casefold()) :][:1].isalnum() for mark in found)


class AllOf(msgspec.Struct, frozen=True):
    """A step ends where it ends by each of ``boundaries``."""

    boundaries: Sequence[StepBoundary]

    @property
    def looks_ahead(self) -> bool:
        return any(one.looks_ahead for one in self.boundaries)

    def ends(self, place: SeparatorPlace) -> bool:
        return all(one.ends(place) for one in self.boundaries)
