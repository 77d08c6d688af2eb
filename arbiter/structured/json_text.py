"""Read JSON text without loss: each number keeps its value, each key is there once, and nothing is nested deep."""

import json
import re
from decimal import Decimal, InvalidOperation

DEPTH = 128
"""How deep the arrays and objects of a text may be nested, its outermost one included."""
DIGITS = 1000
"""How many characters a number may have."""
EXPONENT = 10_000
"""The largest power of ten of a number, and of one divided by it."""

Json = dict[str, "Json"] | list["Json"] | str | int | Decimal | bool | None
"""JSON data. A number with a point or an exponent is a ``Decimal``, which keeps all its digits."""

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{\]}]', re.DOTALL)
_SURROGATES = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


class NotJsonError(ValueError):
    """A text that is no JSON, or one outside the limits of this module. The message says why, and where."""


def depth_of(text: str) -> int:
    """Return how deep the arrays and objects of a JSON text are nested; 0 if it has none.

    Of a text that is no JSON, the result is the number of brackets that are open at once.
    """
    deepest = depth = 0
    for token in _TOKENS.finditer(text):
        match token[0]:
            case "[" | "{":
                depth += 1
                deepest = max(deepest, depth)
            case "]" | "}":
                depth -= 1
            case _:  # a string, whose brackets count for nothing
                pass
    return deepest


def read_json(text: str) -> Json:
    """Return the data of a JSON text (RFC 8259).

    Raises ``NotJsonError`` if the text is no JSON, has a key twice in one object, NaN, an infinite number, half of a
    surrogate pair, or is outside the limits of this module.
    """
    if depth_of(text) > DEPTH:
        raise NotJsonError(f"it is nested deeper than {DEPTH} levels")
    try:
        data = json.loads(
            text, parse_int=_integer, parse_float=_decimal, parse_constant=_no_number, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise NotJsonError(f"it is not valid JSON: {error.msg} (character {error.pos + 1} of {len(text)})") from error
    if _SURROGATES.search(text):
        _check_text(data)
    return data


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise NotJsonError(f"a number in it has more than {DIGITS} characters: {digits[:20]}…")
    return int(digits)


def _decimal(digits: str) -> Decimal:
    if len(digits) > DIGITS:
        raise NotJsonError(f"a number in it has more than {DIGITS} characters: {digits[:20]}…")
    try:
        number = Decimal(digits)
    except InvalidOperation:  # an exponent that no Decimal can have
        number = None
    if number is None or abs(number.adjusted()) > EXPONENT:
        raise NotJsonError(f"a number in it is too large or too small: {digits[:20]}")
    return number


def _no_number(name: str) -> None:
    raise NotJsonError(f"it is not valid JSON: {name} is no number of JSON")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise NotJsonError(f"it has the key {json.dumps(twice)[:100]} twice in one object")
    return members


def _check_text(data: Json) -> None:
    """Raise ``NotJsonError`` if a key or a string has a lone surrogate."""
    match data:
        case str() if not data.isascii():
            if any("\ud800" <= character <= "\udfff" for character in data):
                raise NotJsonError("a string in it has a lone surrogate")
        case list():
            for one in data:
                _check_text(one)
        case dict():
            for key, value in data.items():
                _check_text(key)
                _check_text(value)
        case _:
            pass
