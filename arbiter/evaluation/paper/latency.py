"""Seconds a problem on stated hardware: what runs wrote and decided, put to simulated servers one problem at a time.

Models in this process share its cores and take turns, so that their own times say nothing of a draft and a target on
GPUs of their own. The speeds of simulated servers are in ``docs/explanation/performance.md``.
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
    """A recorded workload without the scores that only the report asked for (``simulation.workload.Workload``)."""

    def __init__(self, recorded: RecordedWorkload) -> None:
        self._recorded = recorded
        self.problems = recorded.problems
        self.write, self.rate, self.measure = recorded.write, recorded.rate, recorded.measure

    def tasks(self) -> Iterator[Task]:
        return (replace(task, audit=0.0) for task in self._recorded.tasks())


def seconds_alone(folder: Path, problems: Collection[str], hardware: Hardware, verify: Verify) -> float:
    """The mean seconds of a problem of the run in ``folder``, over ``problems`` (ids), each alone on the servers.

    Not inside of an event loop. Raises ``RunError`` if the log cannot be read, ``ConfigError`` for unknown hardware.
    """
    run = Run.open(folder)
    recorded = RecordedWorkload(problem for problem in run.problems() if problem.key[0] in problems)
    study = Study(_Unaudited(recorded), hardware, Case(concurrency=1, verify=verify))
    return study.run(lambda: None).latency.mean
