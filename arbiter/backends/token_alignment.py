"""Which part of a text each of its tokens adds. Pure functions.

Engines and tokenizers name a token by the text that it has alone. Such names do not always make up the text: a
character may be divided between tokens, which are then no text alone, and some tokenizers drop a space at the
beginning.
"""

from collections.abc import Sequence

from arbiter.backends.step_tokens import UNFINISHED, TokenDecoder

_LARGEST_BYTE = "\xff"


def token_pieces(decoder: TokenDecoder, tokens: Sequence[int]) -> list[str]:
    """Return the text that each token adds to those before it. One that completes no character adds none."""
    pieces, before, read = [""] * len(tokens), 0, 0
    for index in range(len(tokens)):
        known, text = decoder.decode(tokens[before:read]), decoder.decode(tokens[before : index + 1])
        is_last = index + 1 == len(tokens)
        if len(text) > len(known) and (is_last or not text.endswith(UNFINISHED)):
            pieces[index] = text[len(known) :]
            before, read = read, index + 1
    return pieces


def aligned(names: Sequence[str], text: str) -> list[str] | None:
    """Return the part of ``text`` that each token adds, of tokens with these ``names``; None if they do not match it.

    Tokens after ``text`` are left out. The one that ends after it adds the part that is within. A name may be the bytes
    of a part of a character, each as the character of that number (sglang). A name with a character that is not whole
    stands for whatever is between its neighbours.
    """
    walk = _Walk(text)
    for name in names:
        if walk.has_ended:
            break
        if not walk.take(name):
            return None
    return walk.whole()


class _Walk:
    """A walk through ``text``, name by name. ``pieces`` are the parts of the names so far."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._bytes = b""  # of a character that is not whole yet
        self._is_open = False  # whether the last names stand for what is before the next one
        self._pieces: list[str] = []

    @property
    def has_ended(self) -> bool:
        return self._at == len(self._text)

    def take(self, name: str) -> bool:
        """Go on to the end of ``name``. Return False if it is not there."""
        place = None if self._bytes else self._place(name)
        if place is not None:
            if self._is_open:
                self._pieces[-1], self._at = self._text[self._at : place], place
            self._add(min(place + len(name), len(self._text)))
            return True
        if not self._is_open and self._take_bytes(name):
            return True
        self._bytes, self._is_open = b"", True
        self._pieces.append("")
        return UNFINISHED in name or (not name.isascii() and max(name) <= _LARGEST_BYTE)

    def whole(self) -> list[str] | None:
        """Return the pieces; None if they do not reach the end of the text."""
        if self._pieces and (self._is_open or self._bytes):
            self._pieces[-1], self._at = self._pieces[-1] + self._text[self._at :], len(self._text)
        return self._pieces if self.has_ended else None

    def _take_bytes(self, name: str) -> bool:
        """Take a name that is the bytes of a part of a character. Return False if the text has others."""
        try:
            read = self._bytes + name.encode("latin-1")
        except UnicodeEncodeError:
            return False
        if not self._text[self._at : self._at + len(read)].encode().startswith(read):
            return False
        whole = read.decode(errors="ignore")
        self._bytes = read[len(whole.encode()) :]
        self._add(self._at + len(whole))
        return True

    def _add(self, end: int) -> None:
        self._pieces.append(self._text[self._at : end])
        self._at, self._is_open = end, False

    def _place(self, name: str) -> int | None:
        """Return where ``name`` begins: here, or after a space; after any text if the names before are open."""
        text, at = self._text, self._at
        if self._is_open:
            return next((place for place in range(at + 1, len(text)) if name and _is_there(name, text, place)), None)
        return next(
            (place for place in (at, at + 1) if _is_there(name, text, place) and not text[at:place].strip()), None
        )


def _is_there(name: str, text: str, place: int) -> bool:
    """Return whether ``text`` has ``name`` at ``place``, or ends within it."""
    rest = text[place : place + len(name)]
    return name.startswith(rest) and (len(rest) == len(name) or bool(rest))
