"""How numbers are written in tables and messages."""

import pytest

from arbiter.runs.reports.numbers import steps_line


@pytest.mark.parametrize(
    ("run_type", "escalations", "acceptance", "line"),
    [
        ("router", 2, 0.8, "10 (2 escalated)"),
        ("oracle", 0, 0.9, "10 (1 from the target)"),
        ("generate", 0, 0.5, "10 (5 from the target)"),
        ("target", 0, 0.0, "10 (10 from the target)"),
        ("draft", 0, 1.0, "10 (0 from the target)"),
    ],
)
def test_steps_are_shown_with_what_the_target_wrote_where_nothing_is_escalated(
    run_type: str, escalations: int, acceptance: float, line: str
) -> None:
    assert steps_line(run_type, 10, escalations, acceptance) == line


def test_no_steps_have_no_share() -> None:
    assert steps_line("oracle", 0, 0, None) == "0 (0 from the target)"
