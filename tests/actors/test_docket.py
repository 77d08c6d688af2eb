"""The docket: what is going on for each open problem."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from actors.docket import Docket
from protocols.errors import ProblemError
from protocols.records import Tally, Usage

Virtual = Callable[[Callable[[], Awaitable[None]]], None]


def opened(*problems: str) -> Docket:
    docket = Docket()
    for problem in problems:
        docket.open(problem)
    return docket


def test_a_problem_is_in_the_docket_while_it_is_open() -> None:
    docket = opened("p")
    there = "p" in docket
    docket.close("p")
    assert (there, "p" in docket) == (True, False)


def test_a_docket_counts_its_open_problems() -> None:
    docket = opened("p", "q")
    docket.close("p")
    assert len(docket) == 1


def test_a_problem_cannot_be_opened_twice() -> None:
    docket = opened("p")
    with pytest.raises(ProblemError, match="'p' is being solved already"):
        docket.open("p")


def test_a_closed_problem_can_be_opened_again() -> None:
    docket = opened("p")
    docket.close("p")
    docket.open("p")
    assert "p" in docket


def test_closing_twice_is_closing() -> None:
    docket = opened("p")
    docket.close("p")
    docket.close("p")
    assert len(docket) == 0


def test_a_problem_opened_again_starts_with_no_calls() -> None:
    docket = opened("p")
    with docket.request("p", "draft"):
        pass
    docket.close("p")
    docket.open("p")
    assert docket.calls("p") == {}


def test_closing_a_problem_ends_all_its_work_without_an_error(in_virtual_time: Virtual) -> None:
    docket, ended = opened("p"), list[float]()

    async def work() -> None:
        with docket.work("p"):
            await anyio.sleep(100)
        ended.append(anyio.current_time())

    async def body() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            tasks.start_soon(work)
            await anyio.sleep(3)
            docket.close("p")

    in_virtual_time(body)
    assert ended == [3, 3]


def test_closing_a_problem_leaves_the_work_of_others_alone(in_virtual_time: Virtual) -> None:
    docket, ended = opened("p", "q"), list[float]()

    async def body() -> None:
        with docket.work("q"):
            docket.close("p")
            await anyio.sleep(100)
            ended.append(anyio.current_time())

    in_virtual_time(body)
    assert ended == [100]


def test_an_error_in_the_work_comes_out_as_itself(in_virtual_time: Virtual) -> None:
    docket = opened("p")

    async def body() -> None:
        with pytest.raises(ValueError, match="mine"), docket.work("p"):
            raise ValueError("mine")

    in_virtual_time(body)
    assert "p" in docket


def test_an_answered_request_counts_with_its_tokens() -> None:
    docket = opened("p")
    with docket.request("p", "draft") as request:
        request.usage = Usage(3, 4)
    assert docket.calls("p") == {"draft": Tally(requests=1, usage=Usage(3, 4))}


def test_a_failed_request_counts_as_failed_and_its_error_goes_on() -> None:
    docket = opened("p")
    with pytest.raises(ValueError, match="mine"), docket.request("p", "prm"):
        raise ValueError("mine")
    assert docket.calls("p") == {"prm": Tally(requests=1, failed=1)}


def test_a_cancelled_request_counts_as_cancelled(in_virtual_time: Virtual) -> None:
    docket = opened("p")

    async def body() -> None:
        with anyio.move_on_after(1), docket.request("p", "target"):
            await anyio.sleep(100)

    in_virtual_time(body)
    assert docket.calls("p") == {"target": Tally(requests=1, cancelled=1)}


def test_a_request_that_still_runs_counts_as_cancelled() -> None:
    docket = opened("p")
    with docket.request("p", "target"):
        assert docket.calls("p") == {"target": Tally(requests=1, cancelled=1)}


def test_a_request_that_ran_when_it_was_counted_is_not_counted_twice() -> None:
    docket = opened("p")
    with docket.request("p", "target"):
        docket.calls("p")
    assert docket.calls("p") == {"target": Tally(requests=1)}


def test_calls_of_one_model_add_up_and_of_two_are_kept_apart() -> None:
    docket = opened("p")
    for model in ("draft", "draft", "audit"):
        with docket.request("p", model) as request:
            request.usage = Usage(1)
    assert docket.calls("p") == {"draft": Tally(2, usage=Usage(2)), "audit": Tally(1, usage=Usage(1))}


def test_a_request_that_ends_after_its_problem_is_closed_harms_nothing() -> None:
    docket = opened("p")
    with docket.request("p", "draft"):
        docket.close("p")
        docket.open("p")
    assert docket.calls("p") == {}
