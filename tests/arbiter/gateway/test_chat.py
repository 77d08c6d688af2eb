"""``/v1/chat/completions``: the answers, and the effect of each field."""

from pathlib import Path
from typing import Any

import pytest

from arbiter.log.run import Run
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage

pytestmark = pytest.mark.asyncio
WHOLE = "draft 0 of q\n\ntarget 1 of q\n\ndraft 2 of q"


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events if event.get("choices"))


async def test_the_answer_is_the_kept_steps_with_the_separator_between_them(endpoint: Any) -> None:
    async with endpoint() as served:
        answer = (await served.chat()).json()
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": WHOLE, "refusal": None}
    assert (choice["finish_reason"], answer["object"], answer["model"]) == ("stop", "chat.completion", "arbiter")
    assert (answer["arbiter"]["finish_reason"], answer["arbiter"]["acceptance_rate"]) == ("answered", 2 / 3)


async def test_a_stream_has_a_chunk_a_step_and_ends_with_done(endpoint: Any) -> None:
    async with endpoint() as served:
        events = await served.chat_events()
    contents = [event["choices"][0]["delta"].get("content") for event in events[:-1]]
    assert contents == ["", "draft 0 of q", "\n\ntarget 1 of q", "\n\ndraft 2 of q", None]
    assert (events[-2]["choices"][0]["finish_reason"], events[-1]) == ("stop", {})
    assert len({event["id"] for event in events[:-1]}) == 1


async def test_usage_is_that_of_all_requests_to_draft_and_target_and_the_logs(endpoint: Any, tmp_path: Path) -> None:
    async with endpoint(out=tmp_path) as served:
        usage = (await served.chat()).json()["usage"]
    (problem,) = Run.open(tmp_path).problems()
    request_counts = problem.request_counts()
    read = sum(request_counts[model].usage.prompt_tokens for model in ("draft", "target"))
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (read, 4 * 4)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4 * 4
    assert usage["completion_tokens_details"]["accepted_prediction_tokens"] == 2 * 4
    assert usage["completion_tokens_details"]["rejected_prediction_tokens"] == 4
    assert {model: told["requests"] for model, told in usage["arbiter"].items()} == {
        model: counts.requests for model, counts in request_counts.items()
    }


async def test_the_usage_of_a_stream_comes_last_and_only_if_it_is_asked_for(endpoint: Any) -> None:
    async with endpoint() as served:
        with_usage = await served.chat_events(stream_options={"include_usage": True})
        without = await served.chat_events()
    assert (with_usage[-2]["choices"], with_usage[-2]["usage"]["completion_tokens"]) == ([], 16)
    assert not any("usage" in event for event in [*with_usage[:-2], *without])


@pytest.mark.parametrize(
    ("model", "calls"),
    [
        ("arbiter", (3, 1)),
        ("arbiter:router", (3, 1)),
        ("arbiter:router@0.95", (3, 0)),
        ("arbiter:router@0.0", (3, 3)),
        ("arbiter:draft", (3, 0)),
        ("arbiter:target", (0, 3)),
    ],
)
async def test_the_models_name_is_the_operating_point(endpoint: Any, model: str, calls: tuple[int, int]) -> None:
    async with endpoint() as served:
        assert (await served.chat(model=model)).json()["model"] == model
        assert (served.models.asked("draft"), served.models.asked("target")) == calls


async def test_the_threshold_can_be_given_apart_from_the_name_but_not_against_it(endpoint: Any) -> None:
    async with endpoint() as served:
        await served.chat(arbiter={"threshold": 0.95})
        assert served.models.asked("target") == 0
        refused = await served.chat(model="arbiter:router@0.4", arbiter={"threshold": 0.5})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "arbiter.threshold")


async def test_the_records_of_steps_come_if_they_are_asked_for(endpoint: Any) -> None:
    async with endpoint() as served:
        steps = (await served.chat(arbiter={"steps": True})).json()["arbiter"]["steps"]
        events = await served.chat_events(arbiter={"steps": True})
        without = (await served.chat()).json()["arbiter"]
    assert [step["candidates"][step["chosen"]]["author"] for step in steps] == ["draft", "target", "draft"]
    assert [step["verdict"] for step in steps] == ["keep_draft", "escalate", "keep_draft"]
    streamed = [event["arbiter"]["step"]["verdict"] for event in events if "step" in event.get("arbiter", {})]
    assert streamed == ["keep_draft", "escalate", "keep_draft"]
    assert "steps" not in without


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("target", "draft 0 of q\n\n"),
        (["of q\n\ntar"], "draft 0 "),
        (["nowhere", "2 of"], "draft 0 of q\n\ntarget 1 of q\n\ndraft "),
        ("\n\n", "draft 0 of q"),
        ("nowhere", WHOLE),
    ],
)
async def test_a_stop_text_ends_the_answer_also_across_steps_and_is_in_no_chunk(
    endpoint: Any, stop: str | list[str], text: str
) -> None:
    async with endpoint() as served:
        answer = (await served.chat(stop=stop)).json()
        events = await served.chat_events(stop=stop)
    assert answer["choices"][0]["message"]["content"] == text == text_of(events)
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_what_follows_a_stop_text_is_not_asked_for(endpoint: Any) -> None:
    async with endpoint() as served:
        answer = (await served.chat(stop="draft 0")).json()
        assert served.models.asked("draft") == 1
    assert answer["arbiter"]["finish_reason"] == "stop"


async def test_the_tokens_of_an_answer_are_limited_over_all_its_steps(endpoint: Any) -> None:
    async with endpoint() as served:
        answer = (await served.chat(max_tokens=5)).json()
        named = (await served.chat(max_completion_tokens=5)).json()
        refused = await served.chat(max_tokens=5, max_completion_tokens=6)
    assert answer["choices"][0]["finish_reason"] == named["choices"][0]["finish_reason"] == "length"
    assert answer["arbiter"]["finish_reason"] == "max_tokens"
    assert refused.status_code == 400


async def test_limits_can_only_be_narrowed(endpoint: Any) -> None:
    async with endpoint(config={"limits": {"max_steps": 2}}) as served:
        wider = (await served.chat(arbiter={"max_steps": 50})).json()
        narrower = (await served.chat(arbiter={"max_steps": 1})).json()
    assert (wider["choices"][0]["message"]["content"], wider["arbiter"]["finish_reason"]) == (
        "draft 0 of q\n\ntarget 1 of q",
        "max_steps",
    )
    assert narrower["choices"][0]["message"]["content"] == "draft 0 of q"


async def test_a_deadline_gives_what_is_there(endpoint: Any) -> None:
    def seconds(request: GenerationRequest) -> float:
        return 0.0 if request.step == 0 else 60.0

    async with endpoint(seconds=seconds) as served:
        answer = (await served.chat(arbiter={"deadline": 0.2})).json()
    assert (answer["choices"][0]["message"]["content"], answer["arbiter"]["finish_reason"]) == (
        "draft 0 of q",
        "deadline",
    )
    assert answer["choices"][0]["finish_reason"] == "length"


def seeded(request: GenerationRequest) -> Generation:
    return Generation(f"{request.seed} at {request.temperature} and {request.top_p}", "end", Usage(0, 1))


async def test_equal_seeds_have_equal_answers_and_none_a_new_one_each_time(endpoint: Any) -> None:
    async with endpoint(seeded, config={"run_type": "draft"}) as served:

        async def ask(**fields: Any) -> str:
            return (await served.chat(temperature=0.7, top_p=0.9, **fields)).json()["choices"][0]["message"]["content"]

        assert await ask(seed=7) == await ask(seed=7) != await ask(seed=8)
        assert await ask() != await ask()
        assert (await ask()).endswith(" at 0.7 and 0.9")


async def test_earlier_turns_and_instructions_reach_the_models(endpoint: Any) -> None:
    seen: list[Any] = []

    def write(request: GenerationRequest) -> Generation:
        seen.append(request.transcript)
        return Generation("yes", "end", Usage(0, 1))

    messages = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": " and two"}]},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "and now?"},
    ]
    async with endpoint(write) as served:
        await served.post("chat/completions", messages=messages)
    said = [(turn.role, turn.text) for turn in seen[0].turns]
    assert said == [("system", "Be short."), ("user", "one and two"), ("assistant", "three")]
    assert seen[0].question == "and now?"


async def test_tags_user_and_metadata_stand_in_the_log(endpoint: Any, tmp_path: Path) -> None:
    async with endpoint(out=tmp_path) as served:
        await served.chat(user="ann", safety_identifier="7f", metadata={"job": "7"}, arbiter={"tags": {"lane": "fast"}})
    (problem,) = Run.open(tmp_path).problems()
    assert problem.task.tags == {"user": "ann", "safety_identifier": "7f", "job": "7", "lane": "fast"}


async def test_a_model_that_fails_at_the_first_step_is_a_502_and_later_an_event(endpoint: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        if request.transcript.question == "q" or request.step == 1:
            raise OSError("the GPU is gone")
        return Generation(f"step {request.step}", "separator", Usage(0, 1))

    async with endpoint(write) as served:
        at_once = await served.chat()
        in_stream = await served.chat(stream=True)
        later = await served.chat_events("another")
    for answer in (at_once, in_stream):
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "model_failed")
        assert "the GPU is gone" in answer.json()["error"]["message"]
    assert later[-1]["error"]["type"] == "server_error"
    assert text_of(later) == "step 0"
