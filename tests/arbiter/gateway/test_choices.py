"""Several answers to one question (``n``): samples that differ by their seeds, streamed interleaved or whole."""

from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from arbiter.actors.seeds import sample_seed, step_seed
from arbiter.gateway.inprocess_client import BASE
from arbiter.library.arbiter import Arbiter
from arbiter.log.run import Run
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage

pytestmark = pytest.mark.asyncio
WHOLE = "draft 0 of q\n\ntarget 1 of q\n\ndraft 2 of q"
USAGE = {"include_usage": True}


def seeded(request: GenerationRequest) -> Generation:
    """Two steps, each with the seed of its request."""
    return Generation(f"{request.step}: {request.seed}", "end" if request.step else "separator", Usage(5, 3))


def texts_of(events: list[dict[str, Any]]) -> dict[int, str]:
    """The streamed text of each choice."""
    texts: dict[int, str] = {}
    for choice in (choice for event in events for choice in event.get("choices", ())):
        more = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
        texts[choice["index"]] = texts.get(choice["index"], "") + more
    return texts


async def test_the_choices_are_samples_that_differ_by_seed_and_the_first_is_that_of_one_choice(endpoint: Any) -> None:
    async with endpoint(seeded, config={"run_type": "draft"}) as served:
        several = (await served.chat(n=3, temperature=0.7, seed=11)).json()
        again = (await served.chat(n=3, temperature=0.7, seed=11)).json()
        alone = (await served.chat(temperature=0.7, seed=11)).json()
        second = (await served.chat(temperature=0.7, seed=sample_seed(11, 1))).json()
    texts = [choice["message"]["content"] for choice in several["choices"]]
    assert [choice["index"] for choice in several["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts == [choice["message"]["content"] for choice in again["choices"]]
    assert texts[:2] == [one["choices"][0]["message"]["content"] for one in (alone, second)]


async def test_at_temperature_0_the_choices_may_be_equal(endpoint: Any) -> None:
    async with endpoint() as served:
        answer = (await served.chat(n=2)).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == [WHOLE, WHOLE]


async def test_the_usage_of_several_choices_is_their_sum_and_each_has_its_own_report(endpoint: Any) -> None:
    async with endpoint() as served:
        answer = (await served.chat(n=3, arbiter={"steps": True})).json()
        alone = (await served.chat()).json()
    assert answer["usage"]["completion_tokens"] == 3 * alone["usage"]["completion_tokens"]
    assert answer["usage"]["arbiter"]["draft"]["requests"] == 9
    assert [choice["arbiter"]["acceptance_rate"] for choice in answer["choices"]] == [2 / 3] * 3
    assert [len(choice["arbiter"]["steps"]) for choice in answer["choices"]] == [3] * 3
    assert answer["arbiter"]["id"] == answer["choices"][0]["arbiter"]["id"]
    assert "arbiter" not in alone["choices"][0]


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
async def test_a_stream_has_every_choice_with_its_index_and_one_usage(endpoint: Any, path: str) -> None:
    question = {"prompt": "q"} if path == "completions" else {"messages": [{"role": "user", "content": "q"}]}
    async with endpoint() as served:
        events = await served.events(path, n=3, stream_options=USAGE, **question)
    assert texts_of(events) == dict.fromkeys(range(3), WHOLE)
    ends = [choice["index"] for event in events[:-2] for choice in event["choices"] if choice["finish_reason"]]
    assert sorted(ends) == [0, 1, 2]
    assert (events[-2]["usage"]["completion_tokens"], events[-1]) == (3 * 16, {})
    assert sum("usage" in event and event["usage"] is not None for event in events) == 1


async def test_the_role_of_a_choice_is_sent_once_and_first(endpoint: Any) -> None:
    async with endpoint() as served:
        events = await served.chat_events(n=3)
    choices = [choice for event in events[:-1] for choice in event["choices"]]
    roles = Counter(choice["index"] for choice in choices if "role" in choice["delta"])
    assert roles == {0: 1, 1: 1, 2: 1}
    for index in range(3):
        first = next(choice for choice in choices if choice["index"] == index)
        assert first["delta"] == {"role": "assistant", "content": ""}
    assert len({event["id"] for event in events[:-1]}) == 1


async def test_a_slow_choice_holds_up_no_other(endpoint: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        return Generation(f"{request.step}", "end" if request.step else "separator", Usage(0, 1))

    def seconds(request: GenerationRequest) -> float:
        return 0.2 if request.seed == step_seed(5, key[0], request.step, "draft", 0) else 0.0

    key: list[str] = []
    async with endpoint(write, seconds=seconds, config={"run_type": "draft"}) as served:
        key.append(served.gateway.arbiter.task([{"role": "user", "content": "q"}]).seed_name)
        events = await served.chat_events(n=2, temperature=0.5, seed=5)
    ends = [choice["index"] for event in events[:-1] for choice in event["choices"] if choice["finish_reason"]]
    assert ends == [1, 0]


async def test_a_stream_begins_with_the_first_choice_that_has_a_step(endpoint: Any) -> None:
    def seconds(request: GenerationRequest) -> float:
        return 3600.0 if request.seed == step_seed(5, key[0], request.step, "draft", 0) else 0.0

    key: list[str] = []
    body = {"model": "arbiter", "messages": [{"role": "user", "content": "q"}], "n": 2, "temperature": 0.5, "seed": 5}
    async with endpoint(seeded, seconds=seconds, config={"run_type": "draft"}) as served:
        key.append(served.gateway.arbiter.task([{"role": "user", "content": "q"}]).seed_name)
        with anyio.fail_after(20):
            async with served.client.stream(
                "POST", f"{BASE}/v1/chat/completions", json={**body, "stream": True}
            ) as got:
                line = ""
                async for line in got.aiter_lines():
                    if '"content":"0: ' in line:
                        break
        assert (got.status_code, '"index":1' in line) == (200, True)


async def test_a_choice_that_fails_before_any_step_fails_the_request_by_its_status(endpoint: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        if request.seed == step_seed(5, key[0], request.step, "draft", 0):
            return Generation("slow", "end", Usage(0, 1))
        raise OSError("no")

    def seconds(request: GenerationRequest) -> float:
        return 3600.0 if request.seed == step_seed(5, key[0], request.step, "draft", 0) else 0.0

    key: list[str] = []
    async with endpoint(write, seconds=seconds, config={"run_type": "draft"}) as served:
        key.append(served.gateway.arbiter.task([{"role": "user", "content": "q"}]).seed_name)
        with anyio.fail_after(20):
            failed = await served.chat(n=2, temperature=0.5, seed=5, stream=True)
    assert (failed.status_code, failed.json()["error"]["code"]) == (502, "model_failed")


async def test_several_prompts_have_all_their_choices_one_prompt_after_the_other(endpoint: Any) -> None:
    async with endpoint() as served:
        answer = (await served.post("completions", prompt=["a", "b"], n=2)).json()
    starts = [choice["text"].splitlines()[0] for choice in answer["choices"]]
    assert starts == ["draft 0 of a", "draft 0 of a", "draft 0 of b", "draft 0 of b"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]


async def test_the_openai_client_joins_a_stream_of_several_choices(endpoint: Any) -> None:
    async with endpoint(seeded, config={"run_type": "draft"}) as served, served.gateway.client() as client:
        asked: dict[str, Any] = {
            "model": "arbiter",
            "messages": [{"role": "user", "content": "q"}],
            "n": 2,
            "temperature": 0.9,
            "seed": 3,
        }
        whole = await client.chat.completions.create(**asked)
        async with client.chat.completions.stream(**asked, stream_options=USAGE) as stream:
            async for _ in stream:
                pass
            joined = await stream.get_final_completion()
    contents = [choice.message.content for choice in whole.choices]
    assert len(set(contents)) == 2
    assert [choice.message.content for choice in joined.choices] == contents
    assert [choice.message.role for choice in joined.choices] == ["assistant", "assistant"]
    assert joined.usage is not None
    assert joined.usage.completion_tokens == 2 * 2 * 3


@pytest.mark.parametrize("n", [0, -1, 2.5, "2", True, 9, 10**30])
async def test_a_number_of_choices_out_of_range_is_refused_by_name(endpoint: Any, n: Any) -> None:
    async with endpoint() as served:
        refused = await served.chat(n=n)
        assert served.models.asked("draft") == 0
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")


async def test_the_limit_of_choices_is_that_of_the_configuration(endpoint: Any) -> None:
    async with endpoint(config={"serve": {"choices": 2}}) as served:
        taken = await served.chat(n=2)
        refused = await served.post("completions", prompt="q", n=3)
    assert (taken.status_code, refused.status_code) == (200, 400)
    assert "at most 2 answers to a question (serve.choices)" in refused.json()["error"]["message"]


async def test_each_choice_takes_the_capacity_of_a_problem(endpoint: Any, until: Any) -> None:
    async with endpoint(seconds=60.0, config={"limits": {"problems": 2}}, queue=1) as served:
        for_good = await served.chat(n=4)
        async with anyio.create_task_group() as clients:
            clients.start_soon(served.chat)
            await until(lambda: served.gateway.open == 1)
            assert (await served.chat(n=3)).status_code == 429
            clients.cancel_scope.cancel()
        await until(lambda: served.gateway.open == 0)
    assert for_good.status_code == 400


@pytest.mark.parametrize("n", [2, 9])
async def test_a_request_of_too_many_answers_is_refused_before_any_task_is_made(endpoint: Any, n: int) -> None:
    made: list[Any] = []

    class Counted(Arbiter):
        def task(self, question: Any, **overrides: Any) -> Any:
            made.append(question)
            return super().task(question, **overrides)

    async with endpoint(config={"limits": {"problems": 2}}, queue=1, kind=Counted) as served:
        several = await served.post("completions", prompt=["a", "b"], n=n)
        one = await served.chat(n=2 * n)
        assert (several.status_code, one.status_code, made, served.gateway.open) == (400, 400, [], 0)


async def test_a_client_that_goes_away_ends_all_its_choices(endpoint: Any, until: Any) -> None:
    async with endpoint(seconds=60.0) as served:
        for stream in (False, True):
            with anyio.move_on_after(0.1):
                await served.chat(n=3, stream=stream)
            await until(lambda: served.models.running == 0)
        assert served.models.draft.cancelled == 6
        live = (await served.client.get("http://arbiter/live")).json()
    assert (live["totals"]["cancelled"], live["open"]) == (6, [])
    assert len({one["id"] for one in live["ended"]}) == 6


async def test_one_choice_that_fails_fails_the_request(endpoint: Any) -> None:
    failed: list[int | None] = []

    def write(request: GenerationRequest) -> Generation:
        if request.step and not failed:
            failed.append(request.seed)
            raise OSError("no")
        return Generation("good", "end" if request.step else "separator", Usage(0, 1))

    async with endpoint(write, config={"run_type": "draft"}) as served:
        events = await served.chat_events(n=3)
    assert events[-1]["error"]["code"] == "model_failed"


async def test_the_log_and_the_live_page_have_every_choice_as_a_sample(endpoint: Any, tmp_path: Path) -> None:
    async with endpoint(out=tmp_path) as served:
        answer = (await served.chat(n=3)).json()
        live = (await served.client.get("http://arbiter/live")).json()
        metrics = (await served.client.get("http://arbiter/metrics")).text
    name = answer["arbiter"]["id"]
    assert sorted(problem.key for problem in Run.open(tmp_path).problems()) == [(name, sample) for sample in range(3)]
    assert {one["id"] for one in live["ended"]} == {name, f"{name}#1", f"{name}#2"}
    assert [len(one["steps"]) for one in live["ended"]] == [3, 3, 3]
    assert 'arbiter_problems_ended_total{finish_reason="answered"} 3.0' in metrics
