"""``/v1/completions``: texts, lists of texts, token ids."""

from typing import Any
from unittest.mock import patch

import openai
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import load_config
from arbiter.gateway.app import Gateway
from arbiter.gateway.detokenizer import Detokenizer
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle
from arbiter.protocols.records import Usage

pytestmark = pytest.mark.asyncio


async def test_a_text_is_a_question(endpoint: Any) -> None:
    async with endpoint() as served:
        answer = (await served.post("completions", prompt="q")).json()
    assert answer["choices"][0]["text"] == "draft 0 of q\n\ntarget 1 of q\n\ndraft 2 of q"
    assert (answer["object"], answer["usage"]["completion_tokens"]) == ("text_completion", 16)


async def test_texts_are_answered_in_their_order_and_their_usage_is_added_up(endpoint: Any) -> None:
    async with endpoint() as served:
        answer = (await served.post("completions", prompt=["a", "b", "c"])).json()
    texts = [choice["text"].splitlines()[0] for choice in answer["choices"]]
    assert texts == ["draft 0 of a", "draft 0 of b", "draft 0 of c"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 3 * 16


async def test_a_stream_tells_which_prompt_a_chunk_belongs_to(endpoint: Any) -> None:
    async with endpoint() as served:
        events = await served.events("completions", prompt=["a", "b"], stream_options={"include_usage": True})
    texts = dict.fromkeys((0, 1), "")
    for event in events[:-2]:
        texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert texts == {index: f"draft 0 of {q}\n\ntarget 1 of {q}\n\ndraft 2 of {q}" for index, q in enumerate("ab")}
    assert (events[-2]["usage"]["completion_tokens"], events[-1]) == (32, {})


async def test_one_of_several_that_fails_fails_the_request_and_ends_the_others(endpoint: Any, until: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        if request.transcript.question == "bad":
            raise OSError("no")
        return Generation("good", "separator", Usage(0, 1))

    def seconds(request: Any) -> float:
        return 0.0 if request.transcript.question == "bad" else 60.0

    async with endpoint(write, seconds=seconds) as served:
        refused = await served.post("completions", prompt=["bad", "good", "good"])
        await until(lambda: served.models.running == 0)
    assert refused.status_code == 502


async def test_token_ids_are_refused_where_the_drafts_tokenizer_is_not_known(endpoint: Any) -> None:
    async with endpoint() as served:
        refused = await served.post("completions", prompt=[1, 2, 3])
        mixed = await served.post("completions", prompt=["text", 3])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt")
    assert "models.draft.tokenizer" in refused.json()["error"]["message"]
    assert mixed.status_code == 400


async def test_token_ids_are_read_with_the_drafts_tokenizer_where_it_is_known() -> None:
    from transformers import AutoTokenizer

    from arbiter.pocket import resolved

    seen: list[str] = []

    def write(request: GenerationRequest) -> str:
        seen.append(request.transcript.question)
        return "step"

    reader: Any = AutoTokenizer
    tokenizer = reader.from_pretrained(resolved("pocket:draft"))
    ids: list[int] = [*tokenizer("Compute (12+30)*7.")["input_ids"], tokenizer.eos_token_id]
    draft = Models(draft=ModelHandle[Generator](ScriptedGenerator(write)))
    arbiter = Arbiter(load_config("pocket"), models=draft, run_types=["draft"])
    gateway = Gateway(arbiter)
    async with arbiter, gateway.client() as client:
        await client.completions.create(model="arbiter:draft", prompt=ids)
        await client.completions.create(model="arbiter:draft", prompt=[ids, ids])
        for unknown in (len(tokenizer), len(tokenizer) + 7, 10**9, 2**40):
            with pytest.raises(openai.BadRequestError, match=r"not valid token ids of the draft"):
                await client.completions.create(model="arbiter:draft", prompt=[*ids, unknown])
            with pytest.raises(openai.BadRequestError, match=r"not valid token ids of the draft"):
                await client.completions.create(model="arbiter:draft", prompt=[ids, [unknown]])
    assert set(seen) == {"Compute (12+30)*7."}


async def test_the_text_of_token_ids_keeps_its_spaces_whatever_the_tokenizers_setting() -> None:
    from transformers import AutoTokenizer

    from arbiter.pocket import resolved

    reader: Any = AutoTokenizer
    tokenizer = reader.from_pretrained(resolved("pocket:draft"))
    tokenizer.clean_up_tokenization_spaces = True
    detokenizer = Detokenizer(load_config("pocket").models.draft)
    with patch("arbiter.gateway.detokenizer.read_tokenizer", return_value=tokenizer):
        assert await detokenizer.text(tokenizer("Is 1 . 2 ?")["input_ids"]) == "Is 1 . 2 ?"
