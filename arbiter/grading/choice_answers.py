"""Find which choices an answer names: by letter, by text, by both, or by number.

All functions are pure and take time linear in their input, so they may run on the event loop.
"""

import re
import unicodedata
from string import ascii_uppercase

from arbiter.grading.answers import Reference
from arbiter.grading.markup import without_markup

Letters = frozenset[str]

_SPACING = re.compile(r"\\[,;! ]")
_PREFIX = re.compile(r"(?:the\s+)?(?:options?|choices?|answers?|letters?)\s*:?\s+(?=\S)", re.IGNORECASE)
_SEVERAL = re.compile(r"\(?[A-Z]\)?(?:(?:\s*[,;/&]\s*|\s+)(?:and\s+|or\s+)?\(?[A-Z]\)?)*")
_TOGETHER = re.compile(r"[A-Z]{2,26}")
_SMALL = re.compile(r"\(?(?P<letter>[a-z])\)?")
_LABELLED = re.compile(r"(?:\((?P<inside>[A-Za-z])\)|(?P<letter>[A-Z])[).:])(?P<rest>.*)", re.DOTALL)
_LABEL = re.compile(r"\(([A-Z])\)|(?<![A-Za-z\\])([A-Z])[).:](?=\s|$)")
_BARE = re.compile(r"(?P<letter>[A-Z])\s+(?P<rest>\S.*)", re.DOTALL)
_NUMBER = re.compile(r"\d{1,2}")


def resolved_letters(reference: str | Reference, choices: tuple[str, ...]) -> Letters | None:
    """Return the letters of the right choices; None if the reference names none of the choices.

    Without ``choices`` only letters can be resolved.
    """
    texts = [str(answer) for answer in reference.answers] if isinstance(reference, Reference) else [reference]
    found: set[str] = set()
    for text in texts:
        named = named_choices(text, choices, count=len(choices) or len(ascii_uppercase))
        if named is None:
            return None
        found |= named
    return frozenset(found) or None


def named_choices(answer: str, choices: tuple[str, ...], count: int = 1) -> Letters | None:
    """Return the letters of the choices that ``answer`` names; None if it names none of them for sure.

    ``choices`` are the texts of the choices, in the order of their letters. If it is empty, all letters to Z are
    choices whose texts are not known. ``count`` is the number of choices that are required: an answer that writes its
    letters together, such as ``ABD``, names several only if it is above 1.
    """
    known = ascii_uppercase[: len(choices)] if choices else ascii_uppercase
    whole = _plain(answer)
    text = _PREFIX.sub("", whole, count=1)
    letters = _by_letters(text, count)
    if letters is not None and letters <= set(known):
        return letters
    by_text = _by_text(text, choices) or _by_text(whole, choices)
    if by_text is not None:
        return by_text
    labelled = _labelled(text, choices)
    if labelled is not None and labelled <= set(known):
        return labelled
    number = _NUMBER.fullmatch(text)
    if number and 1 <= int(text) <= len(choices) and not any(map(_has_digit, choices)):
        return frozenset(known[int(text) - 1])
    return None


def _by_letters(text: str, count: int) -> Letters | None:
    """Return the letters of a text that has nothing else."""
    if small := _SMALL.fullmatch(text):
        return frozenset(small["letter"].upper())
    if _SEVERAL.fullmatch(text):
        return frozenset(re.findall(r"[A-Z]", text))
    if count > 1 and _TOGETHER.fullmatch(text) and len(set(text)) == len(text):
        return frozenset(text)
    return None


def _by_text(text: str, choices: tuple[str, ...]) -> Letters | None:
    """Return the letter of the only choice with this text."""
    same = [
        letter for letter, choice in zip(ascii_uppercase, choices, strict=False) if _folded(choice) == _folded(text)
    ]
    return frozenset(same) if len(same) == 1 else None


def _labelled(text: str, choices: tuple[str, ...]) -> Letters | None:
    """Return the letters of a text such as ``(B) blue``. A text that contradicts its letter names both choices."""
    if label := _LABELLED.match(text):
        first, rest = (label["inside"] or label["letter"]).upper(), label["rest"].strip()
        more = {found for pair in _LABEL.findall(rest) for found in pair if found}
        return frozenset({first, *more, *(_by_text(rest, choices) or ())})
    if label := _BARE.match(text):
        rest = _by_text(label["rest"], choices)
        return None if rest is None else frozenset({label["letter"], *rest})
    return None


def _plain(text: str) -> str:
    return " ".join(_SPACING.sub("", without_markup(text)).split()).rstrip(".,;").strip()


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", _plain(text)).casefold()


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)
