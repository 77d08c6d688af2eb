"""``/v1/responses``, through OpenAI's own client in this process."""

from typing import Any

import pytest

from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage

pytestmark = pytest.mark.asyncio
WHOLE = "draft 0 of q\n\ntarget 1 of q\n\ndraft 2 of q"


async def test_the_client_reads_the_answer_and_its_usage(endpoint: Any) -> None:
    async with endpoint() as served, served.gateway.client() as client:
        answer = await client.responses.create(model="arbiter", input="q", metadata={"job": "7"})
    assert (answer.output_text, answer.status, answer.metadata) == (WHOLE, "completed", {"job": "7"})
    assert answer.usage is not None
    assert (answer.usage.output_tokens, answer.usage.input_tokens_details.cached_tokens) == (16, 16)


async def test_the_events_come_in_the_order_that_clients_know_with_a_delta_a_step(endpoint: Any) -> None:
    async with endpoint() as served, served.gateway.client() as client:
        events = [event async for event in await client.responses.create(model="arbiter", input="q", stream=True)]
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 3,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(11))
    assert events[-1].response.output_text == WHOLE


async def test_the_clients_own_accumulation_of_a_stream_comes_to_the_same(endpoint: Any) -> None:
    async with (
        endpoint() as served,
        served.gateway.client() as client,
        client.responses.stream(model="arbiter", input="q") as stream,
    ):
        final = await stream.get_final_response()
    assert final.output_text == WHOLE


async def test_instructions_and_items_are_a_conversation(endpoint: Any) -> None:
    seen: list[GenerationRequest] = []

    def write(request: GenerationRequest) -> Generation:
        seen.append(request)
        return Generation("yes", "end", Usage(0, 1))

    async with endpoint(write) as served, served.gateway.client() as client:
        first = await client.responses.create(model="arbiter", input="one", instructions="Be short.")
        items: list[Any] = [
            {"role": "user", "content": "one"},
            *[item.model_dump() for item in first.output],
            {"role": "user", "content": [{"type": "input_text", "text": "two"}]},
        ]
        await client.responses.create(model="arbiter", input=items)
    first_turns, turns = seen[0].transcript.turns, seen[-1].transcript.turns
    assert [(turn.role, turn.text) for turn in first_turns] == [("system", "Be short.")]
    assert [(turn.role, turn.text) for turn in turns] == [("user", "one"), ("assistant", "yes")]
    assert seen[-1].transcript.question == "two"


async def test_an_answer_that_was_cut_is_incomplete(endpoint: Any) -> None:
    async with endpoint() as served, served.gateway.client() as client:
        answer = await client.responses.create(model="arbiter", input="q", max_output_tokens=5)
        events = [
            event
            async for event in await client.responses.create(
                model="arbiter", input="q", max_output_tokens=5, stream=True
            )
        ]
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert events[-1].type == "response.incomplete"


async def test_what_fails_half_way_is_told_by_an_event(endpoint: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        if request.step:
            raise OSError("the GPU is gone")
        return Generation("first", "separator", Usage(0, 1))

    async with endpoint(write) as served, served.gateway.client() as client:
        events = [event async for event in await client.responses.create(model="arbiter", input="q", stream=True)]
    assert (events[-1].type, events[-1].response.error.code) == ("response.failed", "model_failed")
    assert "the GPU is gone" in events[-1].response.error.message


@pytest.mark.parametrize(
    "item", [{"type": "function_call_output", "call_id": "1", "output": "x"}, {"type": "item_reference", "id": "msg_1"}]
)
async def test_items_that_are_no_messages_are_refused(endpoint: Any, item: dict[str, str]) -> None:
    async with endpoint() as served:
        refused = await served.post("responses", input=[item])
    assert refused.status_code == 400
