"""Recorded answers come in the recorded order, and only those that were awaited together take virtual time."""

from collections.abc import Callable

import anyio
import pytest

from arbiter.actors.policies import DraftOnly, Oracle, RewardThreshold
from arbiter.actors.ring import open_ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.log.run import Run
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Transcript, Usage
from arbiter.replay.recorded_models import RecordedModels
from arbiter.replay.recorded_tasks import task_of
from arbiter.replay.virtual_time import run_virtually


def write(request: GenerationRequest) -> Generation:
    return Generation(f"{request.author} {request.step}", "end" if request.step == 2 else "separator", Usage(5, 4))


def slow() -> Models:
    """Each answer takes some hundredths of a second. The PRM rates the draft low."""
    draft = ModelHandle(ScriptedGenerator(write, lambda _: 0.02))
    target = ModelHandle(ScriptedGenerator(write, lambda _: 0.05))
    return Models(draft, target, {"prm": ModelHandle(ScriptedScorer(lambda _: 0.1, lambda _: 0.01))})


@pytest.mark.parametrize(
    ("policy", "waits"), [(DraftOnly(), False), (RewardThreshold(0.5), False), (Oracle(0.0), True)]
)
def test_only_answers_that_were_awaited_together_take_virtual_time(
    record: Callable[..., Run], policy: Policy, waits: bool
) -> None:
    run = record(slow(), [Task("p", Transcript("a question"), policy)])
    [problem] = run.problems()
    taken: list[float] = []

    async def body() -> None:
        models, started = RecordedModels(), anyio.current_time()
        models.begin(problem)
        async with open_ring(models.handles()) as ring:
            solution = await ring.solve(task_of(problem))
        taken.append(anyio.current_time() - started)
        recorded = problem.solution()
        assert recorded is not None
        assert solution.text == recorded.text

    run_virtually(body)
    assert (taken[0] > 0) == waits
