"""Print how much of the gap between the draft alone and the target alone runs recover."""

from arbiter.cli.console import print_rows, stdout
from arbiter.runs.reports.gap_figures import GapRecovery


def show_recovery(recovery: GapRecovery | None) -> None:
    """Print the figures and what they mean, or why they are not defined. Nothing without both models alone."""
    if recovery is None:
        return
    stdout.print(recovery.text, highlight=False)
    for rows in recovery.tables:
        if not stdout.is_terminal:
            stdout.print()  # it ends the paragraph or the table before, which Markdown would continue
        print_rows(rows)
