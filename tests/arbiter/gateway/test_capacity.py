"""The limit on open problems, refusals at capacity, and problems whose clients disconnect."""

from typing import Any

import anyio
import pytest

from arbiter.protocols.errors import ClosedError

pytestmark = pytest.mark.asyncio
SLOW = 60.0


async def test_what_has_no_place_is_a_429_that_says_when_to_come_again(endpoint: Any, until: Any) -> None:
    answers: list[Any] = []
    opening = endpoint(seconds=SLOW, config={"limits": {"problems": 2}}, queue=1)
    async with opening as served, anyio.create_task_group() as clients:
        for _ in range(3):
            clients.start_soon(served.chat)
        await until(lambda: (served.gateway.arbiter.running, served.gateway.arbiter.waiting) == (2, 1))
        answers += [await served.chat(), await served.chat(stream=True)]
        clients.cancel_scope.cancel()
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_place_is_free_again_when_its_request_is_over_however_it_ended(endpoint: Any, until: Any) -> None:
    async with endpoint(config={"limits": {"problems": 1}}, queue=0) as served:
        for _ in range(3):
            assert (await served.chat()).status_code == 200
            await served.chat_events()
            assert (await served.chat(model="arbiter:nowhere")).status_code == 404
            with anyio.move_on_after(0):
                await served.chat()
            await until(lambda: served.gateway.open == 0)  # a disconnect is noticed with a delay


async def test_a_request_of_more_prompts_than_there_are_places_is_refused_for_good(endpoint: Any) -> None:
    async with endpoint(config={"limits": {"problems": 2}}, queue=0) as served:
        refused = await served.post("completions", prompt=["a", "b", "c"])
        taken = await served.post("completions", prompt=["a", "b"])
    assert (refused.status_code, taken.status_code) == (400, 200)


async def test_the_body_of_who_has_no_place_is_not_read(endpoint: Any, until: Any) -> None:
    headers, url = {"content-type": "application/json"}, "http://arbiter/v1/completions"
    opening = endpoint(seconds=SLOW, config={"limits": {"problems": 1}}, queue=0)
    async with opening as served, anyio.create_task_group() as clients:
        clients.start_soon(served.chat)
        await until(lambda: served.gateway.open == 1)
        assert (await served.client.post(url, content=b"{", headers=headers)).status_code == 429
        clients.cancel_scope.cancel()


async def test_a_client_that_goes_away_ends_its_problem_at_the_models_and_no_other(endpoint: Any, until: Any) -> None:
    async with endpoint(seconds=SLOW) as served:
        async with anyio.create_task_group() as staying:
            staying.start_soon(served.chat)
            await until(lambda: served.models.running == 1)
            for stream in (False, True):
                with anyio.move_on_after(0.1):
                    await served.chat(stream=stream)
                await until(lambda: served.models.running == 1)
            assert (served.models.draft.cancelled, served.gateway.arbiter.running) == (2, 1)
            staying.cancel_scope.cancel()
        await until(lambda: served.models.running == 0)


async def test_a_client_that_leaves_a_stream_half_way_ends_its_problem(endpoint: Any, until: Any) -> None:
    def seconds(request: Any) -> float:
        return 0.0 if request.step == 0 else SLOW

    async with endpoint(seconds=seconds) as served, served.gateway.client() as client:
        stream = await client.chat.completions.create(
            model="arbiter", messages=[{"role": "user", "content": "q"}], stream=True
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await until(lambda: served.models.running == 0)
        assert served.models.draft.cancelled == 1


async def test_steps_are_sent_when_they_are_final_and_not_at_the_end(endpoint: Any) -> None:
    async with endpoint(seconds=0.05) as served, served.gateway.client() as client:
        stream = await client.chat.completions.create(
            model="arbiter:draft", messages=[{"role": "user", "content": "q"}], stream=True
        )
        asked = [served.models.draft.calls async for chunk in stream if chunk.choices[0].delta.content]
    assert asked[0] < asked[-1] == 3


async def test_when_the_arbiter_closes_new_requests_are_refused_and_running_ones_handed_back(
    endpoint: Any, until: Any
) -> None:
    answers: list[Any] = []
    async with endpoint(seconds=SLOW) as served:

        async def ask(**fields: Any) -> None:
            answers.append(await served.chat(**fields))

        async with anyio.create_task_group() as clients:
            clients.start_soon(ask)
            await until(lambda: served.models.running == 1)
            await served.gateway.arbiter.close(0)
        refused = await served.chat()
        ready = await served.client.get("http://arbiter/ready")
        live = await served.client.get("http://arbiter/health")
    for answer in (*answers, refused):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (ready.status_code, live.status_code) == (503, 200)
    with pytest.raises(ClosedError):
        await served.gateway.arbiter.solve("q")
