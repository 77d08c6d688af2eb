"""Readings agree if and only if their values do."""

from fractions import Fraction
from random import Random
from typing import TypeVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arbiter.grading.equivalence import equal_mathematics

whole = st.integers(-999, 999)
positive = st.integers(1, 999)
fractions = st.builds(Fraction, whole, positive)
Drawn = TypeVar("Drawn")
Interval = tuple[int, int, str, str]
intervals = st.tuples(whole, whole, st.sampled_from("(["), st.sampled_from(")]")).filter(
    lambda drawn: drawn[0] < drawn[1]
)
small = st.integers(-80, 80)


def pairs_of(each: st.SearchStrategy[Drawn]) -> st.SearchStrategy[tuple[Drawn, Drawn]]:
    """Two drawn values, which are the same one in half of the cases."""
    return st.one_of(st.tuples(each, each), each.map(lambda drawn: (drawn, drawn)))


def latex(value: Fraction, factor: int = 1) -> str:
    return f"\\frac{{{factor * value.numerator}}}{{{factor * value.denominator}}}"


def relation(low: int, high: int, opened: str, closed: str) -> str:
    below, above = ("<" if opened == "(" else "\\le"), ("<" if closed == ")" else "\\le")
    return f"{low} {below} x {above} {high}"


@given(pairs_of(fractions), st.integers(2, 9))
def test_fractions_agree_where_they_are_equal(drawn: tuple[Fraction, Fraction], factor: int) -> None:
    one, other = drawn
    assert equal_mathematics(latex(one), latex(other, factor)) is (one == other)
    assert equal_mathematics(f"{one.numerator}/{one.denominator}", latex(one))


@given(whole, st.integers(0, 99), pairs_of(small))
def test_powers_of_ten_are_compared_exactly_however_small(digits: int, part: int, powers: tuple[int, int]) -> None:
    one, other = powers
    number = f"{digits}.{part:02}"
    same = one == other or (digits == 0 and part == 0)
    assert equal_mathematics(f"{number}\\times10^{{{one}}}", f"{number}e{other:+03}") is same


@given(positive, st.integers(1, 98), st.integers(2, 99))
def test_a_mixed_number_is_the_sum_of_its_parts(number: int, above: int, below: int) -> None:
    assume(above < below)
    improper = latex(number + Fraction(above, below))
    assert equal_mathematics(f"{number} {above}/{below}", improper)
    assert equal_mathematics(f"{number}\\frac{{{above}}}{{{below}}}", improper)
    assert not equal_mathematics(f"{number} {above}/{below}", latex(number * Fraction(above, below)))


@given(st.lists(whole, min_size=2, max_size=5, unique=True), st.randoms(use_true_random=False))
def test_a_set_has_no_order_and_a_tuple_has(numbers: list[int], random: Random) -> None:
    mixed = list(numbers)
    random.shuffle(mixed)
    listed, shuffled = ",".join(map(str, numbers)), ",".join(map(str, mixed))
    assert equal_mathematics(f"\\{{{shuffled}\\}}", f"\\{{{listed}\\}}")
    assert equal_mathematics(f"({shuffled})", f"({listed})") is (mixed == numbers)
    assert not equal_mathematics(f"({shuffled})", f"\\{{{listed}\\}}")


@given(pairs_of(intervals))
def test_an_interval_is_the_relation_with_its_ends(drawn: tuple[Interval, Interval]) -> None:
    one, other = drawn
    low, high, opened, closed = other
    text = f"{opened}{low},{high}{closed}"
    assert equal_mathematics(relation(*one), text) is (one == other)
    assert equal_mathematics(f"\\{{x \\mid {relation(*one)}\\}}", text) is (one == other)


@given(intervals)
def test_a_complement_is_the_union_of_what_is_outside(drawn: Interval) -> None:
    low, high, opened, closed = drawn
    left, right = ("]" if opened == "(" else ")"), ("[" if closed == ")" else "(")
    outside = f"(-\\infty,{low}{left}\\cup{right}{high},\\infty)"
    assert equal_mathematics(f"\\mathbb{{R}}\\setminus{opened}{low},{high}{closed}", outside)
    below, above = ("\\le" if left == "]" else "<"), ("\\ge" if right == "[" else ">")
    assert equal_mathematics(f"x {below} {low} \\text{{ or }} x {above} {high}", outside)


@given(st.integers(1, 999), st.integers(1, 4))
def test_a_repeating_decimal_is_its_fraction_and_not_its_first_digits(number: int, length: int) -> None:
    digits = f"{number % 10**length:0{length}}"
    value = Fraction(int(digits), 10**length - 1)
    assert equal_mathematics(f"0.\\overline{{{digits}}}", latex(value))
    assert equal_mathematics(f"0.{digits}", f"0.\\overline{{{digits}}}") is (value == 0)


@pytest.mark.parametrize(("opened", "closed"), [("", ""), ("\\{", "\\}")])
@pytest.mark.parametrize("written", ["{}", "{}.0", "{}/1"])
def test_long_lists_are_compared_by_their_values_in_any_order(opened: str, closed: str, written: str) -> None:
    numbers = range(400)  # a comparison of all with all takes half a minute
    one = opened + ", ".join(map(str, numbers)) + closed
    other = opened + ", ".join(written.format(number) for number in reversed(numbers)) + closed
    assert equal_mathematics(other, one)
    assert not equal_mathematics(other.replace("17", "18"), one)


@given(st.lists(whole, min_size=2, max_size=4, unique=True), st.randoms(use_true_random=False))
def test_values_with_names_stand_in_the_order_of_their_names(numbers: list[int], random: Random) -> None:
    names = list(zip("abcd", numbers, strict=False))
    mixed = random.sample(names, len(names))
    written = ", ".join(f"{name}={number}" for name, number in mixed)
    assert equal_mathematics(written, ", ".join(f"{name}={number}" for name, number in names))
    assert equal_mathematics(",".join(map(str, numbers)), written)
    assert equal_mathematics(written, f"({','.join(map(str, numbers))})")
    assert not equal_mathematics(written, f"({','.join(map(str, reversed(numbers)))})")
