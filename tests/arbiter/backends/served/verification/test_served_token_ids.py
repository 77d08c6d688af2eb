"""A served model that takes and returns numbers of tokens writes in steps what it writes in one go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.served.completion_answers import OPENAI, EndSigns
from arbiter.backends.served.prompt_form import as_text
from arbiter.backends.served.token_steps import TokenSteps, token_steps
from arbiter.backends.token_texts import TransformersTokenTexts
from arbiter.config.model_tables import Engine
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import GenerationRequest, Proposal
from arbiter.protocols.records import Step, StopReason, Transcript

if TYPE_CHECKING:
    from conftest import Body, Next, ScriptedServer, Target, Tokenizer

Targets = Callable[..., "Target"]
Request = Callable[..., GenerationRequest]

ENGINES: list[Engine] = ["sglang", "vllm"]
ENDINGS: list[StopReason] = ["separator", "end", "limit"]
SEPARATORS = ["\n\n", "\n", "b", "a\n", "ab", "\n\n\n"]
TEXT = st.lists(st.sampled_from(["a", "b", "\n", " ", "ab"]), min_size=1, max_size=4).map("".join)
LONGEST = 16


def in_one_go(model: Next, prompt: list[int]) -> list[int]:
    """Return what the model writes after ``prompt``, up to an end token."""
    written: list[int] = []
    while len(written) < LONGEST and not (written and written[-1] in (0, 1)):
        written.append(model([*prompt, *written]))
    return written


@given(data=st.data(), question=TEXT, seed=st.integers(0, 10**6), separator=st.sampled_from(SEPARATORS))
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.slow
def test_steps_are_the_tokens_of_one_long_answer_with_any_proposals(
    engine: Engine,
    data: st.DataObject,
    question: str,
    seed: int,
    separator: str,
    target: Targets,
    models: Callable[[int], Next],
    generation: Request,
    tiny: Tokenizer,
) -> None:
    there, written, ending = target(model=models(seed), engine=engine, by_tokens=True), list[int](), "separator"
    transcript = Transcript(question)
    while ending == "separator" and len(written) < LONGEST:
        fields: dict[str, Any] = {"separator": separator, "max_tokens": LONGEST - len(written), "token_exact": True}
        request = generation(author="target", transcript=transcript, **fields)
        proposal = data.draw(st.none() | st.builds(Proposal, TEXT, st.sampled_from(ENDINGS)))
        made = there.write(request, proposal)
        assert made.token_ids
        written, ending = [*written, *made.token_ids], made.stop_reason
        step = Step(made.text, "target", token_ids=made.token_ids, overrun=made.overrun)
        transcript = transcript.extended(step)
    assert written == in_one_go(models(seed), tiny(question)["input_ids"])


def test_a_step_that_is_not_token_exact_is_sent_as_text(target: Targets, generation: Request) -> None:
    there = target([2, 5], by_tokens=True)
    made = there.write(generation(author="target", transcript=Transcript("b")))
    ((_, body),) = there.server.asked
    assert (body["prompt"], made.token_ids) == ("b", ())


def test_a_step_of_another_model_is_sent_as_it_stands_in_the_whole_text(target: Targets, generation: Request) -> None:
    there = target([2, 5], by_tokens=True)
    steps = Step("a", "target", token_ids=(2, 4, 4)), Step("b", "draft", token_ids=(3, 5))
    there.write(generation(author="target", transcript=Transcript("b", steps), token_exact=True))
    ((_, body),) = there.server.asked
    assert body["prompt"] == [3, 2, 4, 4, 3, 5]


def found(server: ScriptedServer, tokenizer: Tokenizer, engine: Engine | None) -> TokenSteps | str:
    texts = TransformersTokenTexts(tokenizer)
    return anyio.run(lambda: token_steps(server, "m", texts, EndSigns(engine=engine).engine, as_text, OPENAI))


class Characters:
    """A tokenizer with a token for each of the characters of the trial."""

    eos_token_id = 0
    is_fast = False

    def __init__(self, more: int = 0) -> None:
        self.more = more

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [3] * (len(text) + self.more)}

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return "b" * len(ids)


def test_a_server_that_takes_and_returns_tokens_is_found_out(scripted_server: type[ScriptedServer]) -> None:
    server = scripted_server(lambda _: 3, Characters())
    assert isinstance(found(server, Characters(), "sglang"), TokenSteps)  # pyright: ignore[reportArgumentType]


def without_tokens(_: str, answer: Body) -> Body:
    answer["choices"][0].pop("token_ids", None)
    return answer


def test_a_gateway_that_drops_the_tokens_is_found_out(scripted_server: type[ScriptedServer]) -> None:
    server = scripted_server(lambda _: 3, Characters())
    server.change = without_tokens
    assert "does not return the tokens" in str(found(server, Characters(), "sglang"))  # pyright: ignore[reportArgumentType]


def test_a_gateway_that_refuses_numbers_is_found_out(scripted_server: type[ScriptedServer]) -> None:
    class Gateway(scripted_server):
        def answer(self, path: str, body: Body) -> Body:
            if isinstance(body["prompt"], list):
                raise BackendError("http://scripted answered 400: prompt must be a string")
            return super().answer(path, body)

    reason = found(Gateway(lambda _: 3, Characters()), Characters(), "vllm")  # pyright: ignore[reportArgumentType]
    assert "refuses numbers of tokens: http://scripted answered 400" in str(reason)


def test_a_server_of_another_tokenizer_is_found_out(scripted_server: type[ScriptedServer]) -> None:
    server = scripted_server(lambda _: 3, Characters(more=1))
    assert "where the tokenizer counts" in str(found(server, Characters(), "vllm"))  # pyright: ignore[reportArgumentType]


def test_nothing_is_sent_to_an_engine_that_is_not_known(scripted_server: type[ScriptedServer], tiny: Tokenizer) -> None:
    server = scripted_server(lambda _: 3)
    assert "is not known to return tokens" in str(found(server, tiny, None))
    assert server.asked == []


def test_steps_without_known_tokens_are_read_as_text(target: Targets, generation: Request) -> None:
    request = generation(author="target", transcript=Transcript("b"), token_exact=True)
    assert target([2, 5]).write(request).token_ids == ()
