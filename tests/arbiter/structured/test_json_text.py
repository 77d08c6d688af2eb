"""JSON text becomes data without losing anything, and what is no JSON is refused with a reason."""

import json
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.structured.json_text import DEPTH, DIGITS, NotJsonError, depth_of, read_json

SCALARS = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=("Cs",)))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
)


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_what_was_written_is_read(value: object, escaped: bool, indent: int | None) -> None:
    assert read_json(json.dumps(value, ensure_ascii=escaped, indent=indent)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e300"), max_value=Decimal("1e300")))
def test_no_digit_of_a_number_is_lost(number: Decimal) -> None:
    assert read_json(str(number)) == number


@given(st.text(alphabet='[]{}",:\\ua1d8 truefalsn0.-', max_size=60) | st.text())
def test_any_text_is_read_as_the_standard_library_reads_it_or_refused(text: str) -> None:
    try:
        value = read_json(text)
    except NotJsonError as error:
        assert str(error)  # noqa: PT017 (refusals are expected for some texts)
    else:
        assert value == json.loads(text, parse_float=Decimal)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("{'a': 1}", "not valid JSON"),
        ('{"a": 1,}', "not valid JSON"),
        ('{"a": 1} more', "not valid JSON: Extra data (character 10 of 13)"),
        ('{"a": NaN}', "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("01", "not valid JSON"),
        ('"\n"', "not valid JSON"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', 'the key "c" twice'),
        ('"\\ud83d"', "a lone surrogate"),
        ('[{"\\uDE00": 1}]', "a lone surrogate"),
        ("\ufeff1", "not valid JSON"),
        ("9" * (DIGITS + 1), f"more than {DIGITS} characters"),
        ("0." + "9" * DIGITS, f"more than {DIGITS} characters"),
        ("1e10001", "too large"),
        ("1e-10001", "too small"),
        ("1e99999999999999999999", "too large"),
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), f"deeper than {DEPTH}"),
        ("[" * 1_000_000, f"deeper than {DEPTH}"),
    ],
)
def test_a_text_outside_the_limits_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(NotJsonError) as refused:
        read_json(text)
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 200


def test_a_surrogate_pair_is_one_character() -> None:
    assert read_json('"\\ud83d\\ude00"') == "😀"
    assert read_json('"\\\\ud83d"') == "\\ud83d"


def test_numbers_beyond_the_range_of_a_float_keep_their_value() -> None:
    assert read_json("[9007199254740993, 0.1000000000000000000001, 1e400]") == [
        9007199254740993,
        Decimal("0.1000000000000000000001"),
        Decimal("1e400"),
    ]


@given(VALUES)
def test_the_depth_of_a_text_is_that_of_its_data(value: Any) -> None:
    def depth(one: Any) -> int:
        if type(one) not in (list, dict):
            return 0
        inner = list(cast("dict[str, Any]", one).values()) if type(one) is dict else cast("list[Any]", one)
        return 1 + max(map(depth, inner), default=0)

    assert depth_of(json.dumps(value)) == depth(value)


def test_a_megabyte_of_escaped_quotes_is_read_in_one_pass() -> None:
    assert depth_of('"' + '\\"' * 1_000_000) == 0
