"""Which part of a text each of its tokens adds. Pure functions.

Engines and tokenizers name a token by the text that it has alone. Such names do not always make up the text: a
character may be divided between tokens, which are then no text alone, and some tokenizers drop a space at the
beginning.
"""

from collections.abc import Sequence

from arbiter.backends.step_tokens import UNFINISHED, TokenDecoder


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

    Tokens after ``text`` are left out. The one that ends after it adds the part that is within. A name with a character
    that is not whole stands for whatever is between its neighbours.
    """
    pieces, at, is_open = list[str](), 0, False
    for name in names:
        if at == len(text):
            break
        place = _place(name, text, at, is_open)
        if place is None and UNFINISHED in name:
            pieces.append("")
            is_open = True
        elif place is None:
            return None
        else:
            if is_open:
                pieces[-1], at = text[at:place], place
            end = min(place + len(name), len(text))
            pieces.append(text[at:end])
            at, is_open = end, False
    if is_open:
        pieces[-1], at = text[at:], len(text)
    return pieces if at == len(text) else None


def _place(name: str, text: str, at: int, is_open: bool) -> int | None:
    """Return where ``name`` begins in ``text``, at ``at`` or after a space; after any text if a character is open."""
    if not is_open:
        return next(
            (place for place in (at, at + 1) if _is_there(name, text, place) and not text[at:place].strip()), None
        )
    return next((place for place in range(at + 1, len(text)) if name and _is_there(name, text, place)), None)


def _is_there(name: str, text: str, place: int) -> bool:
    """Return whether ``text`` has ``name`` at ``place``, or ends within it."""
    rest = text[place : place + len(name)]
    return name.startswith(rest) and (len(rest) == len(name) or bool(rest))
