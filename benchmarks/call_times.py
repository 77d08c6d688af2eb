"""Measure the time to a whole tool call: the router, whose drafted calls are checked, and the target alone.

    python benchmarks/call_times.py [--problems 256] [--acceptance 0.7] [--invalid 0.1] [--seed 0] [--running 1,64]

Times are virtual, on the servers of ``first_chunk.py``. Each answer ends with a call, alone or after thoughts. A share
``invalid`` of the drafted calls breaks its tool's schema: such a draft escalates without a request to the router.
"""

import sys
from collections.abc import Iterator, Sequence
from statistics import fmean, median, quantiles

import cyclopts
from first_chunk import RUNS, measure
from markdown_tables import markdown
from msgspec.structs import replace

from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall
from arbiter.simulation.synthetic_workload import LogNormal, SyntheticWorkload, tokens_of

TURNS = {"the call alone": LogNormal(1, 0, 1), "thoughts, then the call": LogNormal(4, 0.5, 20)}
_RULES = AnswerRules((Tool("add", parameters='{"type": "object", "required": ["a"]}'),))
_VALID, _INVALID = ToolCall("", "add", '{"a": 1}'), ToolCall("", "add", "{}")


class CallWorkload(SyntheticWorkload, frozen=True):
    """A workload whose last steps call a tool. A share ``invalid`` of the drafted calls breaks the tool's schema."""

    invalid: float = 0.1

    def tasks(self, policy: Policy) -> Iterator[Task]:
        """Return the problems as tasks that offer the tool."""
        for task in super().tasks(policy):
            yield replace(task, transcript=replace(task.transcript, rules=_RULES))

    def write(self, request: GenerationRequest) -> Generation:
        """Return the scripted answer of a generator. The number of its tokens includes those of its call."""
        answer = super().write(request)
        if answer.stop_reason != "end":
            return answer
        breaks = request.author == "draft" and self._drawn(request.problem, request.step, "call") < self.invalid
        return replace(answer, calls=(_INVALID if breaks else _VALID,))


def main(
    problems: int = 256, *, acceptance: float = 0.7, invalid: float = 0.1, seed: int = 0, running: str = "1,64"
) -> None:
    """Print the table. Separate several numbers of concurrent problems by commas."""
    world = CallWorkload(problems, acceptance, seed, invalid=invalid)
    sys.stdout.write(table(world, [int(number) for number in running.split(",")]) + "\n")


def table(world: CallWorkload, running: Sequence[int]) -> str:
    """Return the times of both runs, and those of the router as multiples of those of the target alone."""
    rows: list[list[str]] = []
    for number in running:
        for turn, steps in TURNS.items():
            figures = {name: times(replace(world, steps=steps), policy, number) for name, policy in RUNS.items()}
            router, alone = figures.values()
            for name, own in figures.items():
                rows.append([f"{number}", turn, name, *(f"{seconds:.3f}" for seconds in own)])
            shares = [f"{one / other:.2f}" for one, other in zip(router, alone, strict=True)]
            rows.append([f"{number}", turn, "router / target alone", *shares])
    return markdown("running | answer | run | whole call, s: mean | p50 | p95", rows)


def times(world: CallWorkload, policy: Policy, running: int) -> tuple[float, float, float]:
    """Return the mean, the median and the 95th percentile of the seconds to a whole call."""
    waits = measure(world, policy, "steps", running, _tokens_of).whole
    return fmean(waits), median(waits), quantiles(waits, n=20, method="inclusive")[-1]


def _tokens_of(text: str) -> int:
    """Return the tokens of a question or step. A call follows the text of its step, on a line of its own."""
    return tokens_of(text.partition("\n")[0])


if __name__ == "__main__":
    cyclopts.run(main)
