"""Requests to models: limited, recorded before they are used, and not made twice."""

import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from arbiter.actors.policies import Oracle, RewardThreshold
from arbiter.actors.requests import note_retry
from arbiter.actors.ring import Ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.events import (
    CallCancelled,
    CallFailed,
    CallGenerated,
    CallRetried,
    CallScored,
    CallStarted,
    Entry,
)
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Limits, RequestCounts, Solution, StepRecord, Usage

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Body = Callable[[], object]
InVirtualTime = Callable[[Body], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Recalled = CallGenerated | CallScored | CallFailed

HOUR = 3600.0
ANSWER = CallGenerated("from the log", "end", Usage(5, 3), 1.5, Usage(2, 0))


class Notebook:
    """A journal that keeps entries, recalls ``recalled``, and can block an entry."""

    kept = True
    threshold: float | None = None

    def __init__(self, recalled: dict[str, Recalled] | None = None) -> None:
        self.entries: list[Entry] = []
        self.recalled = recalled or {}
        self.blocks: Callable[[Entry], bool] = lambda _: False
        self.room = anyio.Event()

    async def write(self, entry: Entry) -> None:
        if self.blocks(entry):
            await self.room.wait()
        self.entries.append(entry)

    def note(self, entry: Entry) -> None:
        self.entries.append(entry)

    def recall(self, call: str) -> Recalled | None:
        return self.recalled.get(call)

    def decided(self, place: str) -> None:
        """Return None."""

    def spent(self, start: str) -> float:
        return 0.0

    def of(self, kind: type) -> list[Entry]:
        return [entry for entry in self.entries if isinstance(entry.payload, kind)]


@pytest.fixture
def solve(in_virtual_time: InVirtualTime, open_ring: OpenRing) -> Callable[[Models, Task, Notebook], Solution]:
    def run(models: Models, task: Task, journal: Notebook) -> Solution:
        solutions: list[Solution] = []

        async def body() -> None:
            async with open_ring(models, journal=journal) as ring:
                solutions.append(await ring.solve(task))

        in_virtual_time(body)
        [solution] = solutions
        return solution

    return run


Solve = Callable[[Models, Task, Notebook], Solution]


def test_an_answer_that_is_remembered_is_not_asked_for(make_models: MakeModels, a_task: Tasks, solve: Solve) -> None:
    draft = ScriptedGenerator(lambda _: "never")
    journal = Notebook({"p/0/draft_step/draft/0": ANSWER})
    solution = solve(make_models(draft), a_task(), journal)
    assert (draft.calls, journal.of(CallStarted), journal.of(CallGenerated)) == (0, [], [])
    assert solution.steps[0].kept.text == "from the log"


def test_a_remembered_answer_counts_as_it_did(make_models: MakeModels, a_task: Tasks, solve: Solve) -> None:
    solution = solve(make_models(), a_task(), Notebook({"p/0/draft_step/draft/0": ANSWER}))
    assert solution.requests == {"draft": RequestCounts(requests=1, usage=Usage(7, 3))}
    assert (solution.steps[0].kept.usage, solution.steps[0].kept.seconds) == (Usage(5, 3), 1.5)


def test_a_remembered_failure_fails_with_the_same_words(make_models: MakeModels, a_task: Tasks, solve: Solve) -> None:
    def fail(_: GenerationRequest) -> Generation:
        raise ValueError("broken\nmodel") from OSError("no route")

    journal = Notebook()
    first = solve(make_models(ScriptedGenerator(fail)), a_task(), journal)
    [failed] = [entry.payload for entry in journal.entries if isinstance(entry.payload, CallFailed)]
    second = solve(make_models(), a_task(), Notebook({"p/0/draft_step/draft/0": failed}))
    assert first.error == "drafter, step 1: ValueError: broken model, caused by OSError: no route"
    assert (second.error, second.requests) == (first.error, first.requests)


def test_a_remembered_score_where_a_step_was_asked_for_is_refused(
    make_models: MakeModels, a_task: Tasks, solve: Solve
) -> None:
    solution = solve(make_models(), a_task(), Notebook({"p/0/draft_step/draft/0": CallScored(0.5, Usage(), 1.0)}))
    assert "the log has an answer of another kind for p/0/draft_step/draft/0 than was requested" in (
        solution.error or ""
    )


def test_attempts_of_several_requests_for_one_call_have_numbers_of_their_own(
    make_models: MakeModels, a_task: Tasks, solve: Solve
) -> None:
    def retry(_: GenerationRequest) -> Generation:
        for attempt in (1, 2, 1, 1):
            note_retry(attempt, 0.0, "busy")
        return Generation("done", "end", Usage())

    journal = Notebook()
    solve(make_models(ScriptedGenerator(retry)), a_task(), journal)
    retries = [(entry.payload.attempt, entry.id) for entry in journal.entries if isinstance(entry.payload, CallRetried)]
    assert [attempt for attempt, _ in retries] == [1, 2, 3, 4]
    assert len({name for _, name in retries}) == 4


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1, math.inf])
def test_a_score_outside_zero_and_one_is_a_recorded_failure(
    make_models: MakeModels, a_task: Tasks, solve: Solve, value: float
) -> None:
    journal = Notebook()
    solution = solve(make_models(prm=ScriptedScorer(lambda _: value)), a_task(policy=RewardThreshold(0.5)), journal)
    [failed] = journal.of(CallFailed)
    assert isinstance(failed.payload, CallFailed)
    assert (failed.id, failed.cause) == ("p/0/step_drafted/prm/0/answer", "p/0/step_drafted/prm/0")
    assert f"the prm model scored {value}, but a score must be in [0, 1]" in failed.payload.error
    assert (solution.finish_reason, solution.requests["prm"]) == ("failed", RequestCounts(requests=1, failed=1))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_zero_and_one_are_scores(make_models: MakeModels, a_task: Tasks, solve: Solve, value: float) -> None:
    solution = solve(make_models(prm=ScriptedScorer(lambda _: value)), a_task(policy=RewardThreshold(0.5)), Notebook())
    assert solution.finish_reason == "answered"


def test_a_cancelled_request_is_noted_with_its_time(make_models: MakeModels, a_task: Tasks, solve: Solve) -> None:
    journal, slow = Notebook(), ScriptedGenerator(lambda _: "late", seconds=HOUR)
    solution = solve(make_models(slow), a_task(limits=Limits(deadline=10.0)), journal)
    [cancelled] = journal.of(CallCancelled)
    assert cancelled.payload == CallCancelled(10.0)
    assert (cancelled.cause, solution.requests) == (
        "p/0/draft_step/draft/0",
        {"draft": RequestCounts(requests=1, cancelled=1)},
    )


def test_a_request_and_its_answer_are_told_with_their_ids_and_causes(
    make_models: MakeModels, a_task: Tasks, solve: Solve
) -> None:
    journal = Notebook()
    solve(make_models(), a_task(sample=2), journal)
    started, answered = journal.of(CallStarted)[1], journal.of(CallGenerated)[1]
    assert (started.id, started.cause) == ("p/1#2/draft_step/draft/0", "p/1#2/draft_step")
    assert (answered.id, answered.cause) == ("p/1#2/draft_step/draft/0/answer", "p/1#2/draft_step/draft/0")
    assert {(entry.actor, entry.problem, entry.sample, entry.step) for entry in (started, answered)} == {
        ("drafter", "p", 2, 1)
    }


def test_an_answer_is_used_only_once_it_is_handed_over(
    make_models: MakeModels, a_task: Tasks, in_virtual_time: InVirtualTime, open_ring: OpenRing
) -> None:
    """The journal blocks the first answer for an hour: its step is not kept, and the next one is not requested."""
    journal, kept = Notebook(), list[float]()
    journal.blocks = lambda entry: entry.id == "p/0/draft_step/draft/0/answer"

    async def body() -> None:
        begun = anyio.current_time()

        def watch(_: StepRecord) -> None:
            kept.append(anyio.current_time() - begun)

        async with open_ring(make_models(), journal=journal) as ring, anyio.create_task_group() as tasks:
            tasks.start_soon(ring.solve, a_task(), watch)
            await anyio.sleep(HOUR)
            assert (kept, len(journal.of(CallStarted))) == ([], 1)
            journal.room.set()

    in_virtual_time(body)
    assert kept == [pytest.approx(HOUR), pytest.approx(HOUR + 1), pytest.approx(HOUR + 2)]


def test_a_message_is_sent_only_once_it_is_handed_over(
    make_models: MakeModels, a_task: Tasks, in_virtual_time: InVirtualTime, open_ring: OpenRing
) -> None:
    journal, draft = Notebook(), ScriptedGenerator(lambda _: "step")
    journal.blocks = lambda entry: entry.id == "p/0/draft_step"

    async def body() -> None:
        async with open_ring(make_models(draft), journal=journal) as ring, anyio.create_task_group() as tasks:
            tasks.start_soon(ring.solve, a_task())
            await anyio.sleep(HOUR)
            assert draft.calls == 0
            journal.room.set()

    in_virtual_time(body)
    assert draft.calls > 0


def test_an_answer_that_came_too_late_to_be_handed_over_is_counted_as_its_log_tells(
    make_models: MakeModels, a_task: Tasks, solve: Solve
) -> None:
    """The answer arrives after a second, but the journal blocks it until the deadline."""
    journal = Notebook()
    journal.blocks = lambda entry: entry.id == "p/0/draft_step/draft/0/answer"
    solution = solve(make_models(), a_task(limits=Limits(deadline=5.0)), journal)
    assert (solution.finish_reason, solution.requests) == (
        "deadline",
        {"draft": RequestCounts(requests=1, cancelled=1)},
    )
    assert journal.of(CallGenerated) == []


def test_a_model_is_free_again_while_its_answer_waits_for_room(
    make_models: MakeModels, a_task: Tasks, in_virtual_time: InVirtualTime, open_ring: OpenRing
) -> None:
    journal, solutions = Notebook(), list[Solution]()
    journal.blocks = lambda entry: entry.problem == "first" and isinstance(entry.payload, CallGenerated)

    async def body() -> None:
        async with open_ring(make_models(in_flight=1), journal=journal) as ring, anyio.create_task_group() as tasks:
            tasks.start_soon(ring.solve, a_task("first"))
            await anyio.sleep(0.5)
            solutions.append(await ring.solve(a_task("second")))
            journal.room.set()

    in_virtual_time(body)
    assert [solution.finish_reason for solution in solutions] == ["answered"]


def test_of_two_models_asked_at_once_each_has_requests_of_its_own(
    make_models: MakeModels, a_task: Tasks, solve: Solve
) -> None:
    journal = Notebook()
    solve(make_models(), a_task(policy=Oracle(0.0), limits=Limits(max_steps=1)), journal)
    assert sorted(entry.id for entry in journal.of(CallStarted)) == [
        "p/0/draft_step/draft/0",
        "p/0/escalate_step/target/0",
        "p/0/step_drafted/prm/0",
        "p/0/step_regenerated/prm/0",
    ]
