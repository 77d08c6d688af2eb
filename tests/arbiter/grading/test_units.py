"""A unit is missing, or must be the right one."""

import pytest

from arbiter.grading.units import without_unit


@pytest.mark.parametrize(
    ("answer", "unit"),
    [
        ("50 \\text{ minutes}", "minutes"),
        ("50 min", "minutes"),
        ("50\\,\\mathrm{min}", "minute"),
        ("50\\%", "%"),
        ("50 percent", "%"),
        ("50^\\circ", "^{\\circ}"),
        ("50^{\\circ}", "^\\circ"),
        ("50°", "\\circ"),
        ("50 \\text{ degrees}", "^{\\circ}"),
        ("50 \\mathrm{~cm}^2", "$cm^2$"),
        ("50 cm^{2}", "cm^2"),
        ("50\\text{ km/h}", "km/h"),
        ("50 \\mathrm{km}/\\mathrm{h}", "km/h"),
        ("50", "km"),
    ],
)
def test_the_expected_unit_may_be_there_or_not(answer: str, unit: str) -> None:
    assert without_unit(answer, "50", unit) == ("50", "50", True)


@pytest.mark.parametrize(("answer", "unit"), [("50 hours", "minutes"), ("50\\text{ cm}", "cm^2"), ("50 m", "km")])
def test_another_unit_is_another_answer(answer: str, unit: str) -> None:
    assert without_unit(answer, "50", unit)[2] is False


@pytest.mark.parametrize("answer", ["50 apples", "50x", "x", "\\frac{1}{2}"])
def test_what_is_no_known_unit_stays(answer: str) -> None:
    assert without_unit(answer, "50", "km") == (answer, "50", True)


def test_the_reference_loses_its_unit_as_well() -> None:
    assert without_unit("50", "50^\\circ", "^{\\circ}") == ("50", "50", True)
