"""Many questions: solutions as they end, limited concurrency, and questions taken only when they can start."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter import Arbiter, ConfigError, DataError, Problem, ProblemError, Solution
from arbiter.extending import Generation, GenerationRequest, ScriptedGenerator
from arbiter.protocols.records import Usage

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Arbiters = Callable[..., Arbiter]


def seconds_asked(request: Any) -> float:
    return float(request.transcript.question)


def in_one_step(request: GenerationRequest) -> Generation:
    return Generation(request.transcript.question, "end", Usage(completion_tokens=1))


@pytest.fixture
def punctual() -> ScriptedGenerator:
    """A draft that answers in one step, after the number of seconds in the question."""
    return ScriptedGenerator(in_one_step, seconds=seconds_asked)


def test_solutions_come_as_they_finish(
    an_arbiter: Arbiters, in_virtual_time: Virtual, punctual: ScriptedGenerator
) -> None:
    async def body() -> None:
        async with an_arbiter(punctual) as arbiter:
            found = [solution.question async for solution in arbiter.map(["3", "1", "2"])]
        assert found == ["1", "2", "3"]

    in_virtual_time(body)


def test_a_solution_tells_its_question_and_the_id_of_its_problem(
    an_arbiter: Arbiters, in_virtual_time: Virtual, punctual: ScriptedGenerator
) -> None:
    async def body() -> None:
        async with an_arbiter(punctual) as arbiter:
            found = [solution async for solution in arbiter.map([Problem("mine", "1"), "2"])]
        assert [solution.question for solution in found] == ["1", "2"]
        assert found[0].problem == "mine"

    in_virtual_time(body)


@given(
    times=st.lists(st.integers(1, 9), max_size=12),
    concurrency=st.integers(1, 15),
    problems=st.integers(1, 15),
    pause=st.integers(0, 9),
)
@pytest.mark.slow
def test_every_question_is_solved_once_and_never_more_than_allowed_at_a_time(
    times: list[int],
    concurrency: int,
    problems: int,
    pause: int,
    an_arbiter: Arbiters,
    in_virtual_time: Virtual,
) -> None:
    draft, taken, received = ScriptedGenerator(in_one_step, seconds=seconds_asked), list[str](), list[str]()

    def source() -> Iterator[str]:
        for seconds in times:
            taken.append(str(seconds))
            yield taken[-1]

    async def body() -> None:
        async with an_arbiter(draft, keys={"limits": {"problems": problems}}) as arbiter:
            async for solution in arbiter.map(source(), concurrency=concurrency):
                received.append(solution.question)
                assert len(taken) - len(received) <= concurrency
                await anyio.sleep(pause)
                assert len(taken) - len(received) <= concurrency
            assert (arbiter.running, arbiter.waiting) == (0, 0)

    in_virtual_time(body)
    assert sorted(received) == sorted(map(str, times))
    assert draft.most_running <= min(concurrency, problems)


def test_without_a_number_there_are_as_many_as_the_limit_of_problems(
    an_arbiter: Arbiters, in_virtual_time: Virtual, punctual: ScriptedGenerator
) -> None:
    async def body() -> None:
        async with an_arbiter(punctual, keys={"limits": {"problems": 3}}) as arbiter:
            async for _ in arbiter.map(["1"] * 10):
                assert arbiter.waiting == 0
        assert punctual.most_running == 3

    in_virtual_time(body)


def test_questions_may_come_from_an_asynchronous_iterable(
    an_arbiter: Arbiters, in_virtual_time: Virtual, punctual: ScriptedGenerator
) -> None:
    async def source() -> AsyncIterator[str]:
        for _ in range(3):
            await anyio.sleep(5)
            yield "1"

    async def body() -> None:
        async with an_arbiter(punctual) as arbiter:
            began = anyio.current_time()
            ended = [anyio.current_time() - began async for _ in arbiter.map(source())]
        assert ended == [6, 11, 16]

    in_virtual_time(body)


def test_a_source_without_questions_has_no_solutions(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_arbiter() as arbiter:
            assert [solution async for solution in arbiter.map([])] == []

    in_virtual_time(body)


def test_an_error_of_the_source_comes_out_as_itself_and_cancels_what_is_on_its_way(
    an_arbiter: Arbiters, in_virtual_time: Virtual, punctual: ScriptedGenerator
) -> None:
    def source() -> Iterator[str]:
        yield "1"
        yield "100"
        raise OSError("the file is gone")

    async def body() -> None:
        async with an_arbiter(punctual) as arbiter:
            solutions = arbiter.map(source(), concurrency=2)
            assert (await anext(solutions)).question == "1"
            with pytest.raises(OSError, match="the file is gone"):
                await anext(solutions)
            assert (punctual.running, punctual.cancelled, arbiter.running) == (0, 1, 0)

    in_virtual_time(body)


@pytest.mark.parametrize(
    ("questions", "error"),
    [(["1", None], DataError), (["1", ""], DataError), ([Problem("a", "2"), Problem("a", "2")], ProblemError)],
)
def test_a_question_that_cannot_be_asked_is_told_as_when_it_is_solved_alone(
    questions: Any, error: type[Exception], an_arbiter: Arbiters, in_virtual_time: Virtual, punctual: ScriptedGenerator
) -> None:
    async def body() -> None:
        async with an_arbiter(punctual) as arbiter:
            with pytest.raises(error):
                _ = [solution async for solution in arbiter.map(questions)]

    in_virtual_time(body)


def test_a_problem_that_fails_is_a_solution_among_the_others(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    def script(request: GenerationRequest) -> Generation:
        if request.transcript.question == "bad":
            raise OSError("the cable is out")
        return in_one_step(request)

    async def body() -> None:
        async with an_arbiter(ScriptedGenerator(script)) as arbiter:
            found = {one.question: one.finish_reason async for one in arbiter.map(["good", "bad", "better"])}
        assert found == {"good": "answered", "bad": "failed", "better": "answered"}

    in_virtual_time(body)


def test_what_is_wrong_with_the_call_is_told_before_a_question_is_taken(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def body() -> None:
        async with an_arbiter() as arbiter:
            questions = iter(["q"])
            with pytest.raises(ConfigError, match="concurrency must be 1 or more"):
                arbiter.map(questions, concurrency=0)
            with pytest.raises(ConfigError, match="max_steps"):
                arbiter.map(questions, max_steps=0)
            with pytest.raises(ConfigError, match="judge"):
                arbiter.map(questions, run_type="judge")
            assert next(questions) == "q"

    in_virtual_time(body)


def test_overrides_are_those_of_each_question(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_arbiter() as arbiter:
            found = [solution async for solution in arbiter.map(["a", "b"], run_type="target", max_steps=1)]
        assert [[step.kept.author for step in solution.steps] for solution in found] == [["target"]] * 2

    in_virtual_time(body)


def test_who_leaves_early_cancels_all_that_is_on_its_way(an_arbiter: Arbiters, on_each_loop: Virtual) -> None:
    draft = ScriptedGenerator(in_one_step, seconds=seconds_asked)

    async def body() -> None:
        questions = iter(["0", "3600", "3600", "3600", "3600"])
        async with an_arbiter(draft) as arbiter:
            async for _ in arbiter.map(questions, concurrency=3):
                break
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
            assert (draft.running, arbiter.running, arbiter.waiting) == (0, 0, 0)
            assert "3600" in list(questions)

    on_each_loop(body)


def test_several_maps_and_calls_share_the_places(
    an_arbiter: Arbiters, in_virtual_time: Virtual, punctual: ScriptedGenerator
) -> None:
    found: list[Solution] = []

    async def read(arbiter: Arbiter) -> None:
        found.extend([solution async for solution in arbiter.map(["1", "2", "3"], concurrency=256)])

    async def body() -> None:
        keys = {"limits": {"problems": 2}}
        async with an_arbiter(punctual, keys=keys) as arbiter, anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(read, arbiter)
        assert len(found) == 9
        assert punctual.most_running == 2

    in_virtual_time(body)
