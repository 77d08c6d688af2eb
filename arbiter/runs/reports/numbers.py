"""Format numbers for tables and messages."""

import math

from arbiter.config.run_tables import WITHOUT_ESCALATION

NOTHING = "–"
"""Stands for a number that is not known."""


def percent(share: float | None) -> str:
    """Format ``0.123`` as ``12.3%``."""
    return NOTHING if share is None else f"{share:.1%}"


def seconds(value: float | None) -> str:
    """Format seconds with two decimals."""
    return NOTHING if value is None else f"{value:.2f}"


def steps_line(run_type: str, steps: int, escalations: int, acceptance: float | None) -> str:
    """Format the number of steps and of the escalations among them.

    Run types that decide nothing before the target writes escalate nothing: for them it is what the target wrote.
    """
    if run_type in WITHOUT_ESCALATION:
        return f"{steps} ({steps - round(steps * (acceptance or 0.0))} from the target)"
    return f"{steps} ({escalations} escalated)"


def money(value: float | None) -> str:
    """Format an amount with two decimals, or with four significant digits if it is below 1."""
    if value is None:
        return NOTHING
    decimals = 2 if value >= 1 or value == 0 else 3 - math.floor(math.log10(value))
    return f"{value:.{decimals}f}"
