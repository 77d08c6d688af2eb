"""The times of a run's answers as a client would see them if they were streamed by steps."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from arbiter.config.serve_tables import SloTable
from arbiter.log.recorder import Recorder
from arbiter.log.run import Run
from arbiter.log.stream_times import recorded_times
from arbiter.protocols.errors import RunError
from arbiter.protocols.records import Record
from arbiter.runs.intervals import quantile


class Spread(Record, frozen=True):
    """The median and the 95th percentile of seconds; None without values."""

    p50: float | None
    p95: float | None


class AnswerTimes(Record, frozen=True):
    """The times of the answers of a run, in seconds.

    ``first_token`` is the time to the first text, ``first_output_token`` to the first text after the thought,
    ``inter_token`` the mean time between tokens, and ``latency`` the time to the last text. ``good`` counts the answers
    that keep the stated bounds, and ``goodput`` is their number per second of the run. Both are None without bounds,
    and ``goodput`` also if the wall time is not known.
    """

    answers: int
    first_token: Spread
    first_output_token: Spread
    inter_token: Spread
    latency: Spread
    good: int | None = None
    goodput: float | None = None


def answer_times(run: Run, slo: SloTable, wall_seconds: float | None) -> AnswerTimes:
    """Return the times of the answers in ``run``. Raises ``RunError`` if its log is damaged."""
    found = [times for times in map(recorded_times, run.problems()) if times is not None]
    good = sum(times.meets(slo, tokens) for times, tokens in found) if slo.is_stated else None
    return AnswerTimes(
        answers=len(found),
        first_token=_spread([times.first for times, _ in found]),
        first_output_token=_spread([times.first_output for times, _ in found]),
        inter_token=_spread([times.between_tokens(tokens) for times, tokens in found]),
        latency=_spread([times.last for times, _ in found]),
        good=good,
        goodput=good / wall_seconds if good is not None and wall_seconds else None,
    )


async def logged_times(
    folder: Path, journal: Recorder, slo: SloTable, wall_seconds: float | None
) -> AnswerTimes | None:
    """Return the times of the answers of all sessions in the log of a run that is about to end.

    Return None if the log does not have them: it holds no texts, or no problem has ended with an answer.
    """
    if not journal.has_texts:
        return None
    journal.write_carried()
    await journal.written()
    with suppress(RunError):  # the log was damaged meanwhile: each command that reads it says where
        times = answer_times(Run.open(folder), slo, wall_seconds)
        return times if times.answers else None
    return None


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    return Spread(quantile(known, 0.5), quantile(known, 0.95))
