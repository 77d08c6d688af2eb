"""``benchmarks/damage.py`` in short: damage of any file of a run is named, or changes nothing that a command prints."""

from typing import Any

import pytest

from tests.test_benchmarks import printed

pytestmark = pytest.mark.nightly


def test_no_damage_goes_unnoticed() -> None:
    found: Any = printed("damage.py", "--flips", "20", "--aimed", "27", "--every", "20000")
    assert [row["first"] for row in found if row["first"]] == []
    assert all(row["verdicts"]["silent"] == row["verdicts"]["crashed"] == 0 for row in found)
    refused = {row["damage"] for row in found if row["verdicts"]["refused"] == row["cases"] > 0}
    assert refused >= {row["damage"] for row in found if row["damage"].startswith(("aimed", "flips in events.jsonl"))}
    assert {row["damage"] for row in found if row["verdicts"]["noted"]} == {"cuts of events.jsonl"}
