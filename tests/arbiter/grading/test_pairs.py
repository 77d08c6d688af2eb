"""Pairs of references and answers of the kinds that graders get wrong, with their verdicts."""

from typing import Any

import anyio
import pytest

from arbiter.grading import Grade, GradingRequest, MathGrader
from tests.test_benchmarks import load

FEWEST = 15
Pair = Any
"""A pair of the benchmark: its kind, its verdict, the reference and the answer."""


def by_kind() -> dict[str, list[Pair]]:
    kinds: dict[str, list[Pair]] = {}
    benchmark = load("grading")
    for pair in benchmark.read_pairs(benchmark.PAIRS):
        kinds.setdefault(pair.kind, []).append(pair)
    return kinds


async def graded(cases: list[Pair]) -> list[Grade]:
    grader = MathGrader(workers=1)
    return [await grader.grade(GradingRequest(f"\\boxed{{{case.answer}}}", case.reference)) for case in cases]


def test_each_kind_has_pairs_of_both_verdicts_and_no_pair_twice() -> None:
    for kind, cases in by_kind().items():
        assert len(cases) >= FEWEST, kind
        assert {case.right for case in cases} == {True, False}, kind
        assert len({(case.reference, case.answer) for case in cases}) == len(cases), kind


@pytest.mark.slow
@pytest.mark.parametrize("kind", by_kind())
def test_each_pair_gets_its_verdict_and_each_known_one_the_wrong_one(kind: str) -> None:
    cases = by_kind()[kind]
    grades = anyio.run(graded, cases)
    wrong = kind == load("grading").KNOWN
    assert [case for case, grade in zip(cases, grades, strict=True) if grade.right is (case.right is wrong)] == []
    assert [case for case, grade in zip(cases, grades, strict=True) if grade.right is None] == []
