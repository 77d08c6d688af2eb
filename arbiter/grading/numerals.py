"""Read a number: whole, decimal, repeating, mixed, with thousands, or with a power of ten."""

import re
from fractions import Fraction

from arbiter.grading.terms import Expr, Style, Unreadable, whole

_NUMBER = re.compile(r"\d+(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+\.?\d*|\.\d+")
_POWER_OF_TEN = re.compile(r"[eE](?P<power>[+-]?\d{1,4})(?![\d.])")
_REPEATING = re.compile(r"(?P<start>\d*\.\d*)\\overline\s*(?:\{(?P<group>\d+)\}|(?P<digit>\d))")
_GOES_ON = re.compile(r"(?P<whole>\d*\.)(?P<decimals>\d+)(?:\.{3}|\s?\\ldots(?![A-Za-z]))")
_MIXED = re.compile(
    r"(?P<whole>\d+)(?:\s+(?P<above>\d+)\s?/\s?(?P<below>\d+)(?![\d.])"
    r"|\s?\\frac\s?(?:\{(?P<top>\d+)\}|(?P<t>\d))\s?(?:\{(?P<bottom>\d+)\}|(?P<b>\d)))"
)
_LONGEST_GROUP = 6
_SEEN = 3  # digits that must be written before dots, so that they are known to repeat


def read_number(text: str, at: int, style: Style) -> tuple[Expr, int]:
    """Return the number that begins at ``at``, and where it ends. Raises ``Unreadable``."""
    repeating, goes_on = _REPEATING.match(text, at), _GOES_ON.match(text, at)
    if repeating:
        return whole(_repeated(repeating["start"], repeating["group"] or repeating["digit"])), repeating.end()
    if goes_on and (found := _group(goes_on["decimals"])):
        start, group = found
        return whole(_repeated(goes_on["whole"] + start, group)), goes_on.end()
    mixed = _MIXED.match(text, at)
    value = _mixed(mixed) if mixed else None
    if mixed and value is not None:
        return whole(value), mixed.end()
    return _decimal(text, at, style)


def _decimal(text: str, at: int, style: Style) -> tuple[Expr, int]:
    match = _NUMBER.match(text, at)
    if match is None:
        raise Unreadable("a point without digits")
    digits = match[0] if style.thousands else match[0].partition(",")[0]
    end = at + len(digits)
    digits = digits.replace(",", "").rstrip(".")
    power = _POWER_OF_TEN.match(text, end) if style.powers_of_ten else None
    shift = int(power["power"]) if power else 0
    decimals = len(digits.partition(".")[2]) - shift if "." in digits or power else None
    number = Expr("num", value=Fraction(digits or "0") * Fraction(10) ** shift, decimals=decimals)
    return number, power.end() if power else end


def _mixed(match: re.Match[str]) -> Fraction | None:
    """Return the value of a mixed number such as ``2 1/4``; None if its fraction is not below 1."""
    above = int(match["above"] or match["top"] or match["t"])
    below = int(match["below"] or match["bottom"] or match["b"])
    return int(match["whole"]) + Fraction(above, below) if above < below else None


def _group(decimals: str) -> tuple[str, str] | None:
    """Return the digits before the first group that is repeated, and that group; None if no group is.

    Raises ``Unreadable`` if the digits after it are others, or too few to know.
    """
    for at in range(len(decimals) - 1):
        for length in range(1, min(_LONGEST_GROUP, (len(decimals) - at) // 2) + 1):
            group, rest = decimals[at : at + length], decimals[at:]
            if not rest.startswith(group + group):
                continue
            if rest != (group * (len(rest) // length + 1))[: len(rest)]:
                raise Unreadable("the digits before the dots do not repeat")
            if at and len(rest) // length * length < _SEEN:
                raise Unreadable("too few digits before the dots")
            return decimals[:at], group
    return None


def _repeated(start: str, group: str) -> Fraction:
    """Return the number that has ``group`` again and again after ``start``."""
    decimals = start.partition(".")[2]
    before = Fraction(start.rstrip(".") if start.strip(".") else "0")
    return before + Fraction(int(group), (10 ** len(group) - 1) * 10 ** len(decimals))
