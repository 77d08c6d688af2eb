"""Pairs of references and answers of the kinds that graders get wrong, with their verdicts."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from arbiter.grading.grader import Grade, Grader

PAIRS = Path(__file__).parent / "pairs.txt"
FEWEST = 15


class Pair(NamedTuple):
    kind: str
    right: bool
    reference: str
    answer: str


def pairs() -> Iterator[Pair]:
    kind = ""
    for line in PAIRS.read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]") and "←" not in line:
            kind = line[1:-1]
        elif line and not line.startswith("#"):
            verdict, _, rest = line.partition(" ")
            reference, _, answer = rest.partition(" ← ")
            yield Pair(kind, {"right": True, "wrong": False}[verdict], reference, answer)


def by_kind() -> dict[str, list[Pair]]:
    kinds: dict[str, list[Pair]] = {}
    for pair in pairs():
        kinds.setdefault(pair.kind, []).append(pair)
    return kinds


async def graded(cases: list[Pair]) -> list[Grade]:
    grader = Grader(workers=1)
    return [await grader.grade(f"\\boxed{{{case.answer}}}", case.reference) for case in cases]


def test_each_kind_has_pairs_of_both_verdicts_and_no_pair_twice() -> None:
    for kind, cases in by_kind().items():
        assert len(cases) >= FEWEST, kind
        assert {case.right for case in cases} == {True, False}, kind
        assert len({(case.reference, case.answer) for case in cases}) == len(cases), kind


@pytest.mark.slow
@pytest.mark.parametrize("kind", by_kind())
def test_each_pair_gets_its_verdict(kind: str) -> None:
    cases = by_kind()[kind]
    grades = anyio.run(graded, cases)
    assert [case for case, grade in zip(cases, grades, strict=True) if grade.right is not case.right] == []
