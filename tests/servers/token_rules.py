"""Rules of the tokens of a step and of penalties, for engines that return log-probabilities of all tokens."""

import math
from typing import Any

import pytest

from arbiter.protocols.ports import Generation
from arbiter.protocols.records import Step, Transcript
from tests.servers.asking import SEPARATOR, Model, asked
from tests.servers.scribe import EMPTY_STEP, ENDLESS, NOTHING, UNICODE

NEVER = "\0no model writes this\0"
LIKELY = math.exp(-1e-3)


async def written(writer: Model, question: str, **fields: Any) -> Generation:
    async with writer.writing() as generator:
        return await generator.generate(asked(question, **fields))


@pytest.mark.asyncio
class StepTokenRules:
    """For engines that take and return the numbers of tokens. Collected once per engine, by a subclass in its file."""

    @pytest.mark.parametrize(
        ("question", "separator"), [("1", SEPARATOR), ("2", SEPARATOR), (EMPTY_STEP, SEPARATOR), (UNICODE, "界")]
    )
    async def test_steps_are_the_tokens_of_one_long_answer(self, writer: Model, question: str, separator: str) -> None:
        async with writer.writing() as generator:
            whole = await generator.generate(asked(question, separator=NEVER, max_tokens=12, token_exact=True))
            transcript, ids = Transcript(question), list[int]()
            while len(ids) < len(whole.token_ids):
                fields: dict[str, Any] = {"max_tokens": 12 - len(ids), "token_exact": True, "separator": separator}
                made = await generator.generate(asked("", transcript=transcript, **fields))
                step = Step(made.text, "target", token_ids=made.token_ids, overrun=made.overrun)
                transcript, ids = transcript.extended(step), [*ids, *made.token_ids]
                assert made.token_ids
                if made.stop_reason != "separator":
                    break
            assert ids == [*whole.token_ids]
            assert ids


@pytest.mark.asyncio
class TokenRules(StepTokenRules):
    """Collected once per engine, by a subclass in its file."""

    @pytest.mark.parametrize("question", ["1", "2", ENDLESS, UNICODE, NOTHING, EMPTY_STEP])
    async def test_tokens_make_up_the_step_and_the_separator_after_it(self, writer: Model, question: str) -> None:
        found = await written(writer, question, max_tokens=9, top_logprobs=2)
        ended = SEPARATOR if found.stop_reason == "separator" else ""
        assert found.tokens is not None
        assert "".join(token.text for token in found.tokens) == found.text + ended
        assert all(math.exp(token.logprob) > LIKELY and len(token.top) == 2 for token in found.tokens)

    async def test_a_character_that_is_cut_by_the_limit_has_its_token(self, writer: Model) -> None:
        found = await written(writer, UNICODE, max_tokens=8, top_logprobs=0)
        assert found.tokens is not None
        assert "".join(token.text for token in found.tokens) == found.text

    async def test_a_step_is_the_same_with_and_without_its_tokens(self, writer: Model) -> None:
        plain, with_tokens = await written(writer, "7"), await written(writer, "7", top_logprobs=3)
        assert (plain.text, plain.usage.completion_tokens) == (with_tokens.text, with_tokens.usage.completion_tokens)

    async def test_a_frequency_penalty_grows_with_each_repetition(self, writer: Model) -> None:
        plain = await written(writer, ENDLESS, max_tokens=40)
        found = await written(writer, ENDLESS, max_tokens=40, frequency_penalty=2.0)
        assert plain.text == "xy" * 20
        assert found.text != plain.text
        assert found.text.startswith("xyxyxyxy")

    async def test_a_penalty_counts_the_tokens_of_the_step_alone(self, writer: Model) -> None:
        transcript = Transcript("1", (Step("abc" * 15, "target"),))
        fields: dict[str, Any] = {"transcript": transcript, "separator": "1", "max_tokens": 3}
        found = await written(writer, "", frequency_penalty=2.0, **fields)
        assert (found.text, found.stop_reason) == ("abc", "limit")
