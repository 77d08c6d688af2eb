"""Print how much of the gap between the draft alone and the target alone runs recover."""

from arbiter.cli.console import print_rows, stdout
from arbiter.runs.reports.gap_figures import HEADS_OF_CURVES, HEADS_OF_RUNS, GapRecovery


def show_recovery(recovery: GapRecovery | None) -> None:
    """Print the figures and what they mean, or why they are not defined. Nothing without both models alone."""
    if recovery is None:
        return
    stdout.print(recovery.text, highlight=False)
    for heads, rows in (
        (HEADS_OF_CURVES, recovery.table_of_curves),
        (HEADS_OF_RUNS, recovery.table_of_runs),
    ):
        if rows:
            print_rows([list(heads), *rows])
