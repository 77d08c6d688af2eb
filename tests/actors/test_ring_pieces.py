"""Pieces of steps in a ring: which steps have them, when they come, and that they change nothing."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import msgspec
import pytest

from arbiter.actors.policies import DraftOnly, LearnedRouter, TargetOnly
from arbiter.actors.ring import Ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.log.sessions import open_journal
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Solution, StepPiece, StepRecord, Transcript
from arbiter.protocols.tools import AnswerRules, Tool

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Script = Callable[[GenerationRequest], Generation]


def words(request: GenerationRequest) -> Sequence[str]:
    """The texts so far of a step of the default script: a further word each, a second apart."""
    whole = [request.author, "step", f"{request.step}"]
    return [" ".join(whole[:count]) for count in (1, 2)]


def nothing(_request: GenerationRequest) -> Sequence[str]:
    return ()


def another_text(_request: GenerationRequest) -> Sequence[str]:
    return ["another text"]


def second_step(request: ScoreRequest) -> float:
    return 0.9 if request.step == 1 else 0.1


class Seen:
    """What a caller of the ring gets, with the times at which it came."""

    def __init__(self) -> None:
        self.items: list[tuple[float, StepPiece | StepRecord]] = []
        self.solution: Solution | None = None

    def put(self, item: StepPiece | StepRecord) -> None:
        self.items.append((anyio.current_time(), item))

    @property
    def pieces(self) -> list[StepPiece]:
        return [item for _, item in self.items if isinstance(item, StepPiece)]


@pytest.fixture
def solve(
    in_virtual_time: Virtual, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> Callable[..., Seen]:
    """Solve a task with models that pass on their texts, one word a second."""

    def run(task: Task, text: Callable[[GenerationRequest], Sequence[str]] = words) -> Seen:
        seen = Seen()

        async def body() -> None:
            writer = ScriptedGenerator(three_steps, 3.0, text)
            models = make_models(writer, writer, router=ScriptedScorer(second_step, seconds=1.0))
            started = anyio.current_time()
            async with open_ring(models) as ring:
                seen.solution = await ring.solve(task, seen.put, seen.put)
            seen.items = [(at - started, item) for at, item in seen.items]

        in_virtual_time(body)
        return seen

    return run


def test_the_target_is_heard_while_it_replaces_a_draft_and_the_draft_only_when_it_is_kept(
    solve: Callable[..., Seen], a_task: Tasks
) -> None:
    seen = solve(a_task(policy=LearnedRouter(0.5)))
    shown = [(at, item.text if isinstance(item, StepPiece) else f"[{item.kept.text}]") for at, item in seen.items]
    assert shown == [
        (4.0, "[draft step 0]"),
        (9.0, "target"),
        (10.0, " step"),
        (11.0, "[target step 1]"),
        (15.0, "[draft step 2]"),
    ]


@pytest.mark.parametrize("policy", [DraftOnly(), TargetOnly()], ids=["draft", "target"])
def test_a_model_alone_is_heard_from_its_first_word_on(
    solve: Callable[..., Seen], a_task: Tasks, policy: DraftOnly | TargetOnly
) -> None:
    seen = solve(a_task(policy=policy))
    assert [at for at, item in seen.items if isinstance(item, StepPiece)] == [1.0, 2.0, 4.0, 5.0, 7.0, 8.0]
    author = policy.proposers[0]
    assert {(piece.author, piece.text) for piece in seen.pieces} == {(author, author), (author, " step")}


@pytest.mark.parametrize("policy", [DraftOnly(), TargetOnly(), LearnedRouter(0.5)], ids=["draft", "target", "router"])
def test_a_solution_is_the_same_whether_somebody_listens_or_not(
    solve: Callable[..., Seen], a_task: Tasks, policy: DraftOnly
) -> None:
    heard = solve(a_task(policy=policy))
    silent = solve(a_task(policy=policy), text=nothing)
    assert heard.pieces
    assert not silent.pieces
    assert heard.solution == silent.solution


def test_a_step_under_rules_of_the_answer_comes_as_a_whole(solve: Callable[..., Seen], a_task: Tasks) -> None:
    transcript = Transcript("q", rules=AnswerRules((Tool("add"),)))
    assert not solve(msgspec.structs.replace(a_task(policy=TargetOnly()), transcript=transcript)).pieces


def test_a_text_that_is_not_repeated_fails_the_problem_with_its_reason(
    solve: Callable[..., Seen], a_task: Tasks
) -> None:
    seen = solve(a_task(policy=TargetOnly()), text=another_text)
    assert seen.solution is not None
    assert seen.solution.finish_reason == "failed"
    assert "wrote another text" in str(seen.solution.error)
    assert [piece.text for piece in seen.pieces] == ["another text"]


def test_a_cancelled_problem_ends_the_request_that_is_being_heard(
    in_virtual_time: Virtual, a_task: Tasks, three_steps: Script, open_ring: OpenRing
) -> None:
    target = ScriptedGenerator(three_steps, 3.0, words)
    seen = Seen()

    async def body() -> None:
        async with open_ring(Models(target=ModelHandle(target))) as ring, anyio.create_task_group() as tasks:

            def hear(piece: StepPiece) -> None:
                seen.put(piece)
                tasks.cancel_scope.cancel()

            await ring.solve(a_task(policy=TargetOnly()), None, hear)

    in_virtual_time(body)
    assert [piece.text for piece in seen.pieces] == ["target"]
    assert (target.calls, target.running, target.cancelled) == (1, 0, 1)


def test_a_step_that_an_earlier_session_recorded_comes_as_a_whole(
    a_task: Tasks, three_steps: Script, open_ring: OpenRing, tmp_path: Path
) -> None:
    models = Models(target=ModelHandle(ScriptedGenerator(three_steps, texts=words)))
    broken, resumed = Seen(), Seen()

    async def session(seen: Seen, at_step: int | None) -> None:
        """Solve the problem. End the session at the first piece of the step ``at_step``."""
        log = open_journal(tmp_path / "events.jsonl", {}, {})
        async with log as journal, open_ring(models, journal=journal) as ring, anyio.create_task_group() as tasks:

            def hear(piece: StepPiece) -> None:
                seen.put(piece)
                if piece.step == at_step:
                    tasks.cancel_scope.cancel()

            seen.solution = await ring.solve(a_task(policy=TargetOnly()), seen.put, hear)

    async def body() -> None:
        await session(broken, 1)
        await session(resumed, None)

    anyio.run(body)
    assert [piece.step for piece in broken.pieces] == [0, 0, 1]
    assert [piece.step for piece in resumed.pieces] == [1, 1, 2, 2]
    assert [item.kept.text for _, item in resumed.items if isinstance(item, StepRecord)] == [
        f"target step {number}" for number in range(3)
    ]
