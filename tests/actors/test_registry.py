"""The registry of open problems: their work and their requests."""

from collections.abc import Awaitable, Callable

import anyio
import msgspec
import pytest

from arbiter.actors.policies import DraftOnly, RandomEscalation
from arbiter.actors.registry import ProblemRegistry
from arbiter.protocols.errors import ProblemError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import RequestCounts, Transcript, Usage

Virtual = Callable[[Callable[[], Awaitable[None]]], None]


P = Task(id="p", transcript=Transcript("?"), policy=RandomEscalation(0.5))
Q = Task(id="q", transcript=Transcript("?"), policy=RandomEscalation(0.5))
DRAFTED = Task(id="drafted", transcript=Transcript("?"), policy=DraftOnly())


def opened(*tasks: Task) -> ProblemRegistry:
    registry = ProblemRegistry()
    for task in tasks:
        registry.open(task)
    return registry


def test_a_problem_is_in_the_docket_while_it_is_open() -> None:
    registry = opened(P)
    there = P in registry
    registry.close(P)
    assert (there, P in registry) == (True, False)


def test_a_docket_counts_the_open_problems_whose_policies_decide() -> None:
    registry = opened(P, Q, DRAFTED)
    registry.close(P)
    assert registry.deciding == 1
    registry.close(DRAFTED)
    assert registry.deciding == 1


def test_a_problem_cannot_be_opened_twice() -> None:
    registry = opened(P)
    with pytest.raises(ProblemError, match="'p' is already being solved"):
        registry.open(P)


def test_samples_of_a_problem_are_open_side_by_side() -> None:
    first, second = P, msgspec.structs.replace(P, sample=1)
    registry = opened(first, second)
    registry.close(first)
    assert (first in registry, second in registry) == (False, True)


def test_a_sample_cannot_be_opened_twice() -> None:
    registry = opened(msgspec.structs.replace(P, sample=1))
    with pytest.raises(ProblemError, match="'p' is already being solved"):
        registry.open(msgspec.structs.replace(P, sample=1))


def test_a_closed_problem_can_be_opened_again() -> None:
    registry = opened(P)
    registry.close(P)
    registry.open(P)
    assert P in registry


def test_closing_twice_is_closing() -> None:
    registry = opened(P)
    registry.close(P)
    registry.close(P)
    assert registry.deciding == 0


def test_a_problem_opened_again_starts_with_no_calls() -> None:
    registry = opened(P)
    with registry.request(P, "draft"):
        pass
    registry.close(P)
    registry.open(P)
    assert registry.request_counts(P) == {}


def test_closing_a_problem_ends_all_its_work_without_an_error(in_virtual_time: Virtual) -> None:
    registry, ended = opened(P), list[float]()

    async def work() -> None:
        with registry.work(P):
            await anyio.sleep(100)
        ended.append(anyio.current_time())

    async def body() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            tasks.start_soon(work)
            await anyio.sleep(3)
            registry.close(P)

    in_virtual_time(body)
    assert ended == [3, 3]


def test_closing_a_problem_leaves_the_work_of_others_alone(in_virtual_time: Virtual) -> None:
    registry, ended = opened(P, Q), list[float]()

    async def body() -> None:
        with registry.work(Q):
            registry.close(P)
            await anyio.sleep(100)
            ended.append(anyio.current_time())

    in_virtual_time(body)
    assert ended == [100]


def test_an_error_in_the_work_comes_out_as_itself(in_virtual_time: Virtual) -> None:
    registry = opened(P)

    async def body() -> None:
        with pytest.raises(ValueError, match="mine"), registry.work(P):
            raise ValueError("mine")

    in_virtual_time(body)
    assert P in registry


def test_an_answered_request_counts_with_its_tokens() -> None:
    registry = opened(P)
    with registry.request(P, "draft") as request:
        request.usage = Usage(3, 4)
    assert registry.request_counts(P) == {"draft": RequestCounts(requests=1, usage=Usage(3, 4))}


def test_a_failed_request_counts_as_failed_and_its_error_goes_on() -> None:
    registry = opened(P)
    with pytest.raises(ValueError, match="mine"), registry.request(P, "prm"):
        raise ValueError("mine")
    assert registry.request_counts(P) == {"prm": RequestCounts(requests=1, failed=1)}


def test_a_cancelled_request_counts_as_cancelled(in_virtual_time: Virtual) -> None:
    registry = opened(P)

    async def body() -> None:
        with anyio.move_on_after(1), registry.request(P, "target"):
            await anyio.sleep(100)

    in_virtual_time(body)
    assert registry.request_counts(P) == {"target": RequestCounts(requests=1, cancelled=1)}


def test_a_request_that_still_runs_counts_as_cancelled() -> None:
    registry = opened(P)
    with registry.request(P, "target"):
        assert registry.request_counts(P) == {"target": RequestCounts(requests=1, cancelled=1)}


def test_a_request_that_ran_when_it_was_counted_is_not_counted_twice() -> None:
    registry = opened(P)
    with registry.request(P, "target"):
        registry.request_counts(P)
    assert registry.request_counts(P) == {"target": RequestCounts(requests=1)}


def test_calls_of_one_model_add_up_and_of_two_are_kept_apart() -> None:
    registry = opened(P)
    for model in ("draft", "draft", "audit"):
        with registry.request(P, model) as request:
            request.usage = Usage(1)
    assert registry.request_counts(P) == {
        "draft": RequestCounts(2, usage=Usage(2)),
        "audit": RequestCounts(1, usage=Usage(1)),
    }


def test_a_request_that_ends_after_its_problem_is_closed_harms_nothing() -> None:
    registry = opened(P)
    with registry.request(P, "draft"):
        registry.close(P)
        registry.open(P)
    assert registry.request_counts(P) == {}


def test_who_waits_for_all_problems_hears_of_every_close_once() -> None:
    registry, closed = opened(P, Q), list[tuple[Task, int]]()
    registry.after_close(lambda task: closed.append((task, registry.deciding)))
    for task in (Q, Q, P):
        registry.close(task)
    assert closed == [(Q, 1), (P, 0)]
