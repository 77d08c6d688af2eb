"""Remove the unit after an answer, and compare it with the expected unit."""

import re

_NAMES = {
    "degree": ("^\\circ", "\\circ", "°", "degree", "degrees", "deg"),
    "percent": ("%", "\\%", "percent"),
    "second": ("s", "sec", "second", "seconds"),
    "minute": ("min", "mins", "minute", "minutes"),
    "hour": ("h", "hr", "hrs", "hour", "hours"),
    "day": ("day", "days"),
    "mm": ("mm", "millimeter", "millimeters", "millimetres"),
    "cm": ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    "m": ("m", "meter", "meters", "metre", "metres"),
    "km": ("km", "kilometer", "kilometers", "kilometre", "kilometres"),
    "mm^2": ("mm^2", "squaremillimeters"),
    "cm^2": ("cm^2", "squarecentimeters", "squarecentimetres"),
    "m^2": ("m^2", "squaremeters", "squaremetres"),
    "km^2": ("km^2", "squarekilometers", "squarekilometres"),
    "cm^3": ("cm^3", "cubiccentimeters", "cubiccentimetres"),
    "m^3": ("m^3", "cubicmeters", "cubicmetres"),
    "km/h": ("km/h", "kmh", "kph", "km/hr", "kilometersperhour", "kilometresperhour"),
    "m/s": ("m/s", "metersperseconds", "meterspersecond", "metrespersecond"),
    "g": ("g", "gram", "grams"),
    "kg": ("kg", "kilogram", "kilograms"),
}
_CANONICAL = {spelling: name for name, spellings in _NAMES.items() for spelling in spellings}
_WRAPPED = re.compile(r"\\(?:text|textrm|mathrm|mbox|operatorname)\s*\{(?P<inside>[^{}]*)\}")
_SPACING = re.compile(r"\\[!,;: ]|~|\$|\s")
_VALUE_AND_UNIT = re.compile(
    r"(?P<value>.*[\d.)}\]])(?:\s|~|\\[,;: !])*"
    r"(?P<unit>\^\s*\{?\s*\\circ\s*\}?|\\circ|°|\\?%|[A-Za-z][A-Za-z /^{}\d~]*)",
    re.DOTALL,
)


def without_unit(answer: str, expected: str, unit: str) -> tuple[str, str, bool]:
    """Return both answers without their units, and whether the answer's unit is missing or the expected one.

    An unknown unit is kept.
    """
    value, given = _split(answer)
    return value, _split(expected)[0], given is None or given == _canonical(unit)


def _split(text: str) -> tuple[str, str | None]:
    bare = _WRAPPED.sub(lambda match: " " + match["inside"], text).replace("$", "").strip().rstrip(".")
    match = _VALUE_AND_UNIT.fullmatch(bare)
    name = _canonical(match["unit"]) if match else None
    return (match["value"].strip(), name) if match and name else (text, None)


def _canonical(unit: str) -> str | None:
    """Return the canonical name of a unit's spelling; None if it is unknown."""
    bare = _SPACING.sub("", _WRAPPED.sub(lambda match: match["inside"], unit)).replace("{", "").replace("}", "")
    return _CANONICAL.get(bare) or _CANONICAL.get(bare.lower())
