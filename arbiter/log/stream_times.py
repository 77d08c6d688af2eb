"""The times of an answer that is streamed, as programs that measure servers define them (AIPerf 0.13, guidellm 0.8)."""

from arbiter.config.serve_tables import SloTable
from arbiter.log.history import ProblemHistory
from arbiter.protocols.events import StepKeptEvent
from arbiter.structured.thoughts import AnswerDivider, divided_answer


class StreamTimes:
    """When the text of an answer was ready to be sent, in seconds from its request.

    ``first`` is the time of its first text, ``first_output`` that of the first text or call after its thought, and
    ``last`` that of the last text. Each is None until then. ``divider`` finds the thought, wherever it is sent.
    """

    def __init__(self, divider: AnswerDivider) -> None:
        self.first: float | None = None
        self.first_output: float | None = None
        self.last: float | None = None
        self._divider = divider

    def add(self, text: str, now: float, *, has_calls: bool = False, has_ended: bool = False) -> None:
        """Add a part of the answer that is ready at ``now``."""
        output = self._divider.add(text)[1] + (self._divider.end()[1] if has_ended else "")
        if text or has_calls:
            self.last = now
        if self.first is None and (text or has_calls or has_ended):
            self.first = now
        if self.first_output is None and (output or has_calls):
            self.first_output = now

    def between_tokens(self, tokens: int) -> float | None:
        """Return the mean seconds between the ``tokens`` of the answer; None if it has fewer than two.

        As the programs do, this takes the first chunk for one token, whatever it has.
        """
        if self.first is None or self.last is None or tokens < 2:
            return None
        return (self.last - self.first) / (tokens - 1)

    def meets(self, slo: SloTable, tokens: int) -> bool:
        """Return whether an answer of ``tokens`` keeps each bound of ``slo``. One without a value does not keep it."""
        bounds = (
            (self.first, slo.first_token),
            (self.first_output, slo.first_output_token),
            (self.between_tokens(tokens), slo.inter_token),
            (self.last, slo.latency),
        )
        return all(bound is None or (time is not None and time <= bound) for time, bound in bounds)


def recorded_times(problem: ProblemHistory) -> tuple[StreamTimes, int] | None:
    """Return the times of an answer that is streamed by steps, each when it is kept, and its tokens.

    The log does not say whether the prompt opened the thought, so a closing mark that nothing opens is taken for its
    end. Return None if the problem has not ended with an answer, or if the log lacks messages or texts.
    """
    kept_at: dict[int, float] = {}
    for message in problem.messages.values():
        if message.to == "assembler" and isinstance(message.payload, StepKeptEvent):
            kept_at.setdefault(message.step or 0, message.mono)
    records, solution = problem.steps(), problem.solution()
    if solution is None or solution.finish_reason == "failed" or not set(range(len(records))) <= kept_at.keys():
        return None
    texts = [record.kept.content for record in records]
    text = solution.separator.join(texts)
    is_open = "</think>" in text and not divided_answer(text).reasoning
    times = StreamTimes(AnswerDivider(is_open))
    for number, record in enumerate(records):
        joined = (solution.separator if number else "") + texts[number]
        is_last = number + 1 == len(records)
        now = kept_at[number] - problem.start.mono
        times.add(joined, now, has_calls=bool(record.kept.calls), has_ended=is_last)
    return times, sum(record.kept.usage.completion_tokens for record in records)
