"""Units behind values: which they are, and what is no unit."""

from fractions import Fraction

import pytest

from arbiter.grading.spelling import normalised
from arbiter.grading.units import Unit, split_unit, unit_of


def split(text: str) -> tuple[str, Unit | None, Fraction]:
    return split_unit(normalised(text))


@pytest.mark.parametrize(
    ("text", "kinds", "factor"),
    [
        ("50 \\text{ minutes}", {"second": 1}, 60),
        ("50 min", {"second": 1}, 60),
        ("50\\,\\mathrm{min}", {"second": 1}, 60),
        ("50\\%", {"percent": 1}, 1),
        ("50 percent", {"percent": 1}, 1),
        ("50^\\circ", {"degree": 1}, 1),
        ("50^{\\circ}", {"degree": 1}, 1),
        ("50°", {"degree": 1}, 1),
        ("50 \\text{ degrees}", {"degree": 1}, 1),
        ("50^\\circ\\text{C}", {"celsius": 1}, 1),
        ("50 \\mathrm{~cm}^2", {"metre": 2}, Fraction(1, 10_000)),
        ("50 cm^{2}", {"metre": 2}, Fraction(1, 10_000)),
        ("50 \\text{ square centimeters}", {"metre": 2}, Fraction(1, 10_000)),
        ("50\\text{ km/h}", {"metre": 1, "second": -1}, Fraction(1000, 3600)),
        ("50 \\mathrm{km}/\\mathrm{h}", {"metre": 1, "second": -1}, Fraction(1000, 3600)),
        ("50 \\text{ miles per hour}", {"metre": 1, "second": -1}, Fraction(1609344, 3_600_000)),
        ("50 eggs", {"egg": 1}, 1),
        ("50 \\text{ cubic feet}", {"metre": 3}, Fraction(3048, 10_000) ** 3),
        ("50 个", {"个": 1}, 1),
        ("50 厘米", {"metre": 1}, Fraction(1, 100)),
        ("50 \\text{ rods}^2", {"rod": 2}, 1),
        ("50 \\text{ square rods}", {"rod": 2}, 1),
    ],
)
def test_a_unit_behind_a_value_is_known_by_its_kinds_and_its_factor(
    text: str, kinds: dict[str, int], factor: Fraction
) -> None:
    value, unit, scale = split(text)
    assert (value.strip(), scale) == ("50", 1)
    assert unit is not None
    assert (dict(unit.kinds), unit.factor) == (kinds, factor)


@pytest.mark.parametrize(
    "text",
    [
        "50x",
        "2 m",
        "50 abc",
        "3 xyz",
        "50 \\text{ or more}",
        "\\text{not } 5",
        "5 \\mathrm{e}",
        "5 \\text{ dozen}",
        "5 hundredths",
        "3 \\text{ halves}",
        "24 \\text{ factorial}",
        "2 \\text{ pi}",
        "5 \\text{ false}",
        "5 \\text{ sin}",
        "5 twenty",
    ],
)
def test_what_is_no_unit_stays_with_the_value(text: str) -> None:
    spelled = normalised(text)
    assert split_unit(spelled) == (spelled, None, 1)


@pytest.mark.parametrize(("text", "value"), [("\\$5", "5"), ("-\\$5", "-5"), ("\\$5.40", "5.40"), ("$5", "5")])
def test_a_currency_stands_before_its_value(text: str, value: str) -> None:
    assert split(text) == (value, Unit((("dollar", 1),)), 1)


def test_a_scale_multiplies_the_value() -> None:
    assert split("3 \\text{ million dollars}") == ("3", Unit((("dollar", 1),)), 1_000_000)
    assert split("\\$3 million") == ("3", Unit((("dollar", 1),)), 1_000_000)


@pytest.mark.parametrize(
    ("one", "other"), [("egg", "eggs"), ("box", "boxes"), ("penny", "pennies"), ("cm^2", "square cm"), ("km/h", "kph")]
)
def test_spellings_of_one_unit_are_equal(one: str, other: str) -> None:
    assert unit_of(one) == unit_of(other)


@pytest.mark.parametrize(("one", "other"), [("cm", "m"), ("cm", "cm^2"), ("eggs", "apples"), ("minutes", "hours")])
def test_other_units_differ(one: str, other: str) -> None:
    assert unit_of(one) != unit_of(other)


@pytest.mark.parametrize("text", ["50 mod 7", "50 \\pmod{7}", "1 \\bmod 7"])
def test_a_number_with_a_modulus_is_its_rest(text: str) -> None:
    assert split(text) == ("1", Unit((("mod 7", 1),)), 1)


@pytest.mark.parametrize("piece", ["个", "个 ", "a ", "/ m", "⟦m⟧"])
def test_long_units_are_read_in_one_pass(piece: str) -> None:
    text = f"5 {piece * 20_000}5"  # a second try for each piece would take minutes
    assert split_unit(text) == (text, None, 1)
