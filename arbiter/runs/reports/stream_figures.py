"""The times of the answers of several runs as the rows of a table."""

from collections.abc import Mapping

from arbiter.runs.answer_times import AnswerTimes, Spread
from arbiter.runs.reports.numbers import NOTHING, seconds

HEADS = ("run", "answers", "TTFT", "TTFO", "ITL", "latency", "good", "goodput")


def stream_rows(runs: Mapping[str, AnswerTimes]) -> list[tuple[str, ...]]:
    """Return the rows of a table with the columns ``HEADS``: each time as its median and its 95th percentile."""
    return [
        (
            name,
            str(one.answers),
            _shown(one.first_token),
            _shown(one.first_output_token),
            _shown(one.inter_token, 4),
            _shown(one.latency),
            NOTHING if one.good is None else str(one.good),
            NOTHING if one.goodput is None else f"{one.goodput:.3g}/s",
        )
        for name, one in runs.items()
    ]


def _shown(spread: Spread, digits: int = 2) -> str:
    if digits == 2:
        return f"{seconds(spread.p50)} / {seconds(spread.p95)}"
    return " / ".join(NOTHING if value is None else f"{value:.{digits}f}" for value in (spread.p50, spread.p95))
