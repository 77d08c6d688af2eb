"""Seconds per problem on given hardware: recorded runs on simulated servers, one problem at a time.

Models in this process share its cores and take turns. So their measured times say nothing about a draft and a target on
separate GPUs. The speeds of simulated servers are in ``docs/explanation/performance.md``.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from msgspec.structs import replace

from arbiter.actors.controllers import Verify
from arbiter.log.run import Run
from arbiter.protocols.messages import Task
from arbiter.simulation.recorded_workload import RecordedWorkload
from arbiter.simulation.simulation_results import Case
from arbiter.simulation.study import Hardware, Study


class _Unaudited:
    """A recorded workload (``simulation.workload.Workload``) without the audits, which are only for the report."""

    def __init__(self, recorded: RecordedWorkload) -> None:
        self._recorded = recorded
        self.problems = recorded.problems
        self.write, self.rate, self.measure = recorded.write, recorded.rate, recorded.measure

    def tasks(self) -> Iterator[Task]:
        return (replace(task, audit=0.0) for task in self._recorded.tasks())


def seconds_alone(folder: Path, problems: Collection[str], hardware: Hardware, verify: Verify) -> float:
    """Return the mean seconds per problem of the run in ``folder``, over the ids ``problems``, one at a time.

    Do not call it inside an event loop. Raises ``RunError`` if the log cannot be read, and ``ConfigError`` for unknown
    hardware.
    """
    run = Run.open(folder)
    recorded = RecordedWorkload(problem for problem in run.problems() if problem.key[0] in problems)
    study = Study(_Unaudited(recorded), hardware, Case(concurrency=1, verify=verify))
    return study.run(lambda: None).latency.mean
