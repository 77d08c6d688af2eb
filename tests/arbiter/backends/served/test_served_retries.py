"""Which requests are retried, how often, and after which pause."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from arbiter.backends.served.refusals import refusal
from arbiter.backends.served.transport import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Address,
    TemporaryError,
    persistent,
)
from arbiter.protocols.errors import ArbiterError, BackendError
from arbiter.protocols.ports import Generation, Score

if TYPE_CHECKING:
    from conftest import FakeServer

Ask = Callable[..., Awaitable[Generation | Score]]
StepOf = Callable[..., Awaitable[Generation]]
Answer = Callable[..., dict[str, Any]]

NOW = {"retry-after": "0"}
WRITTEN = "Wed, 21 Oct 2015 07:28:00 GMT"


class Attempts:
    """Fails with each of ``errors``, then answers. Records the time of each call, on the clock of the event loop."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        self._errors = list(errors)
        self.times: list[float] = []

    async def __call__(self) -> bytes:
        self.times.append(anyio.current_time())
        if self._errors:
            raise self._errors.pop(0)
        return b"answer"

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


def persisted(attempts: Attempts, retries: int) -> bytes:
    """Return the answer of ``attempts``, in virtual time."""
    address = Address("http://here", timeout=1, retries=retries, connections=1)

    async def body() -> bytes:
        return await persistent(address, attempts)

    return trio.run(body, clock=MockClock(autojump_threshold=0))


@given(st.integers(0, 30), st.integers(0, 30))
def test_there_are_no_more_attempts_than_retries_and_one(retries: int, failing: int) -> None:
    attempts = Attempts([TemporaryError("busy")] * failing)
    if failing <= retries:
        assert persisted(attempts, retries) == b"answer"
    else:
        with pytest.raises(TemporaryError):
            persisted(attempts, retries)
    assert len(attempts.times) == min(failing, retries) + 1


@given(st.integers(1, 30))
def test_a_pause_is_random_below_a_bound_that_doubles_up_to_the_longest(retries: int) -> None:
    attempts = Attempts([TemporaryError("busy")] * retries)
    persisted(attempts, retries)
    bounds = [min(LONGEST_PAUSE, FIRST_PAUSE * 2**n) for n in range(retries)]
    assert all(0 <= pause <= bound + 1e-6 for pause, bound in zip(attempts.pauses, bounds, strict=True))


@given(st.lists(st.floats(0, 60), min_size=1, max_size=10))
def test_a_pause_is_never_shorter_than_the_server_asked_for_and_at_most_a_second_longer(asked: list[float]) -> None:
    attempts = Attempts([TemporaryError("busy", pause) for pause in asked])
    persisted(attempts, len(asked))
    assert all(pause - 1e-6 <= passed <= pause + 1 + 1e-6 for pause, passed in zip(asked, attempts.pauses, strict=True))


def test_requests_that_failed_together_do_not_come_back_together() -> None:
    pauses: set[float] = set()
    for _ in range(20):
        attempts = Attempts([TemporaryError("busy", 5.0)])
        persisted(attempts, 1)
        pauses.update(attempts.pauses)
    assert len(pauses) == 20


def test_many_retries_never_take_longer_than_the_longest_pause_each() -> None:
    attempts = Attempts([TemporaryError("busy")] * 2000)
    persisted(attempts, 2000)
    assert max(attempts.pauses) <= LONGEST_PAUSE + 1e-6


@pytest.mark.parametrize(("retries", "told"), [(0, "1 attempt"), (1, "2 attempts"), (4, "5 attempts")])
def test_the_last_error_comes_out_with_the_number_of_attempts(retries: int, told: str) -> None:
    errors = [TemporaryError(f"busy {n}") for n in range(9)]
    with pytest.raises(TemporaryError) as caught:
        persisted(Attempts(errors), retries)
    assert str(caught.value) == f"busy {retries} (after {told})"


@pytest.mark.parametrize("error", [BackendError("no"), ValueError("a bug")])
def test_what_is_not_temporary_is_not_tried_again(error: Exception) -> None:
    attempts = Attempts([error])
    with pytest.raises(type(error)) as caught:
        persisted(attempts, 5)
    assert (caught.value, len(attempts.times)) == (error, 1)


def test_a_pause_is_cut_short_by_a_cancellation() -> None:
    attempts = Attempts([TemporaryError("busy", 60.0)])

    async def body() -> float:
        with anyio.move_on_after(3):
            await persistent(Address("http://here", timeout=1, retries=5, connections=1), attempts)
        return anyio.current_time() - attempts.times[0]

    assert trio.run(body, clock=MockClock(autojump_threshold=0)) == pytest.approx(3)
    assert len(attempts.times) == 1


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "86400"}, 60.0),
        ({"retry-after": "inf"}, 60.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:20 GMT", "date": WRITTEN}, 20.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:20 -0000", "date": WRITTEN}, 20.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:00 GMT", "date": WRITTEN}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT", "date": WRITTEN}, 60.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),  # long ago on our own clock
        ({"retry-after": "Wed, 21 Oct 9999 07:28:00 GMT"}, 60.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT", "date": WRITTEN}, None),
    ],
)
def test_the_pause_that_a_server_asks_for_is_seconds_or_a_date_on_its_own_clock(
    headers: dict[str, str], pause: float | None
) -> None:
    error = refusal(Address("http://here", timeout=1, retries=1, connections=1), "/", 429, headers, "busy")
    assert isinstance(error, TemporaryError)
    assert error.pause == pause


def test_a_status_is_temporary_if_the_same_request_may_succeed_later() -> None:
    here = Address("http://here", timeout=1, retries=1, connections=1)
    errors = {status: refusal(here, "/", status, {}, "no") for status in range(400, 600)}
    temporary = {status for status, error in errors.items() if isinstance(error, TemporaryError)}
    assert temporary == {408, 409, 425, 429, 500, 502, 503, 504, *range(520, 528), 529, 530}


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_recovers_has_answered(
    status: int, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies({"status": status, "headers": NOW}, answer("a step"))
    assert (await step({"retries": 1})).text == "a step"
    assert len(server.asked) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["reset", "half"])
async def test_a_connection_that_breaks_is_made_again(
    fault: str, server: FakeServer, score: Ask, scored: Answer
) -> None:
    server.replies({"body": "x" * 1000, "fault": fault}, scored(0.0))
    await score({"retries": 1})
    assert len(server.asked) == 2


@pytest.mark.asyncio
async def test_a_pause_that_the_server_asks_for_reaches_it(server: FakeServer, ask: Ask) -> None:
    server.replies({"status": 503, "headers": {"retry-after": WRITTEN, "date": WRITTEN}})
    with pytest.raises(TemporaryError) as caught:
        await ask()
    assert caught.value.pause == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.slow
async def test_a_server_that_always_fails_sees_exactly_the_retries_and_one(
    retries: int, server: FakeServer, ask: Ask
) -> None:
    server.replies({"status": 500, "headers": NOW})
    with pytest.raises(TemporaryError):
        await ask({"retries": retries})
    assert len(server.asked) == retries + 1


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [400, 401, 404])
@pytest.mark.slow
async def test_what_would_fail_again_is_asked_once(status: int, server: FakeServer, ask: Ask) -> None:
    server.replies({"status": status, "headers": NOW})
    with pytest.raises(ArbiterError):
        await ask({"retries": 5})
    assert len(server.asked) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("body", ["<html>", '{"choices": [], "embedding": [], "data": []}'])
@pytest.mark.slow
async def test_what_cannot_be_understood_is_asked_once(body: str, server: FakeServer, ask: Ask) -> None:
    server.replies({"body": body})
    with pytest.raises(BackendError):
        await ask({"retries": 5})
    assert len(server.asked) == 1


def test_each_further_attempt_is_logged_with_its_server_and_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "arbiter.backends"):
        persisted(Attempts([TemporaryError("busy"), TemporaryError("still busy")]), retries=2)
    told = [(record.message, record.__dict__["url"], record.__dict__["error"]) for record in caplog.records]
    assert told == [("trying again", "http://here", reason) for reason in ("busy", "still busy")]
