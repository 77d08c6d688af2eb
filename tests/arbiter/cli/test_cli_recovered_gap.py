"""What commands print about the recovered gap."""

import pytest

from arbiter.cli.recovered_gap import show_recovery
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.gap_figures import CurveRecovery, GapRecovery, RunRecovery

HALF = BootstrapEstimate(0.5)
RECOVERY = GapRecovery(
    problems=9,
    gap=HALF,
    runs=(RunRecovery("a", "router", 0.5, 12.3, HALF, HALF),),
    curves=(CurveRecovery("router", (HALF, HALF, HALF), HALF),),
)


def test_each_table_is_one_of_its_own_in_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    show_recovery(RECOVERY)
    _, curves, runs = capsys.readouterr().out.split("\n\n")
    assert curves.splitlines() == [
        "| run type | CPT(50%) | CPT(80%) | CPT(95%) | APGR |",
        "|---|---|---|---|---|",
        "| router | 50.0% | 50.0% | 50.0% | 50.0% |",
    ]
    assert runs.splitlines()[2:] == ["| a | 12.3 | 50.0% | 50.0% |"]


def test_without_both_models_alone_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_recovery(None)
    assert capsys.readouterr().out == ""
