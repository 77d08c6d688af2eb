"""Units behind an answer: taken off where they are the expected one, and told apart where they are not."""

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
_BEHIND = re.compile(
    r"(?P<value>.*[\d.)}\]])(?:\s|~|\\[,;: !])*"
    r"(?P<unit>\^\s*\{?\s*\\circ\s*\}?|\\circ|°|\\?%|[A-Za-z][A-Za-z /^{}\d~]*)",
    re.DOTALL,
)


def without_unit(answer: str, expected: str, unit: str) -> tuple[str, str, bool]:
    """Both answers without their units, and whether the answer's unit is the expected one, or none at all.

    A unit that is not known is left where it is.
    """
    value, given = _split(answer)
    return value, _split(expected)[0], given is None or given == _canonical(unit)


def _split(text: str) -> tuple[str, str | None]:
    bare = _WRAPPED.sub(lambda match: " " + match["inside"], text).replace("$", "").strip().rstrip(".")
    behind = _BEHIND.fullmatch(bare)
    name = _canonical(behind["unit"]) if behind else None
    return (behind["value"].strip(), name) if behind and name else (text, None)


def _canonical(unit: str) -> str | None:
    """The one name of a unit's many spellings; None if it is not known."""
    bare = _SPACING.sub("", _WRAPPED.sub(lambda match: match["inside"], unit)).replace("{", "").replace("}", "")
    return _CANONICAL.get(bare) or _CANONICAL.get(bare.lower())
