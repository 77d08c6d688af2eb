"""The times of a run's answers as a client would see them if they were streamed by steps."""

from collections.abc import Sequence

from arbiter.config.serve_tables import SloTable
from arbiter.log.run import Run
from arbiter.log.stream_times import recorded_times
from arbiter.protocols.records import Record
from arbiter.runs.intervals import quantile
from arbiter.runs.reports.numbers import NOTHING, seconds

HEADS = ("run", "answers", "TTFT", "TTFO", "ITL", "latency", "good", "goodput")


class Spread(Record, frozen=True):
    """The median and the 95th percentile of seconds; None without values."""

    p50: float | None
    p95: float | None


class StreamFigures(Record, frozen=True):
    """The times of the answers of a run, in seconds.

    ``first_token`` is the time to the first text, ``first_output_token`` to the first text after the thought,
    ``inter_token`` the mean time between tokens, and ``latency`` the time to the last text. ``good`` counts the answers
    that keep the stated bounds, and ``goodput`` is their number per second of the run. Both are None without bounds,
    and ``goodput`` also if the wall time is not known.
    """

    run: str
    answers: int
    first_token: Spread
    first_output_token: Spread
    inter_token: Spread
    latency: Spread
    good: int | None = None
    goodput: float | None = None


def stream_figures(name: str, run: Run, slo: SloTable, wall_seconds: float | None) -> StreamFigures:
    """Return the figures of ``run``. Raises ``RunError`` if its log is damaged."""
    found = [times for times in map(recorded_times, run.problems()) if times is not None]
    good = sum(times.meets(slo, tokens) for times, tokens in found) if slo.is_stated else None
    return StreamFigures(
        run=name,
        answers=len(found),
        first_token=_spread([times.first for times, _ in found]),
        first_output_token=_spread([times.first_output for times, _ in found]),
        inter_token=_spread([times.between_tokens(tokens) for times, tokens in found]),
        latency=_spread([times.last for times, _ in found]),
        good=good,
        goodput=good / wall_seconds if good is not None and wall_seconds else None,
    )


def stream_rows(figures: Sequence[StreamFigures]) -> list[tuple[str, ...]]:
    """Return the rows of a table with the columns ``HEADS``: each time as its median and its 95th percentile."""
    return [
        (
            one.run,
            str(one.answers),
            _shown(one.first_token),
            _shown(one.first_output_token),
            _shown(one.inter_token, 4),
            _shown(one.latency),
            NOTHING if one.good is None else str(one.good),
            NOTHING if one.goodput is None else f"{one.goodput:.3g}/s",
        )
        for one in figures
    ]


def _shown(spread: Spread, digits: int = 2) -> str:
    if digits == 2:
        return f"{seconds(spread.p50)} / {seconds(spread.p95)}"
    return " / ".join(NOTHING if value is None else f"{value:.{digits}f}" for value in (spread.p50, spread.p95))


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    return Spread(quantile(known, 0.5), quantile(known, 0.95))
