"""Ratings of a served judge without a written token: the probabilities of all levels, from ``/v1/decisions``.

Source: sglang 0.5.23, ``srt/entrypoints/openai/serving_decisions.py``. It writes the prompt itself: the input, the
question, the levels with their digits and an instruction, in the chat template with its thoughts switched off. The
template ``levels`` has the same words, so both ways of rating read the same tokens.

vLLM's ``/v1/decisions`` marks the levels with letters (its source after 0.32), which is another prompt: not used.
"""

import math
from typing import Any

import msgspec

from arbiter.backends.judge_prompts import LEVEL_INPUT, LEVEL_QUESTION, LEVEL_TEXTS, JudgePrompt, expected_level
from arbiter.backends.served.completion_answers import CountError, ServerUsage, counted, requested
from arbiter.backends.served.transport import Transport
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Score, ScoreRequest

PATH = "/v1/decisions"
TOLERANCE = 0.01
"""How far a rating may be from that of a written token, in the trial. Digits outside of the 20 likeliest tokens count
here and not there, and engines round differently from batch to batch."""

_ID = "step"
_FORMAT = 1  # of sglang's wording
_ROUNDING = 1e-3
_INPUT = JudgePrompt(LEVEL_INPUT)
_FIELDS: dict[str, Any] = {
    "questions": [{"id": _ID, "type": "score", "question": LEVEL_QUESTION, "levels": LEVEL_TEXTS}],
    "prompt_format_version": _FORMAT,
}


class _Answer(msgspec.Struct, frozen=True):
    probabilities: dict[str, float]


class _Decisions(msgspec.Struct, frozen=True):
    answers: dict[str, _Answer]
    usage: ServerUsage | None = None


_DECODER = msgspec.json.Decoder(_Decisions)


async def decided(transport: Transport, model: str, request: ScoreRequest) -> Score:
    """Return the expected level of a candidate, divided by the highest.

    Raises ``BackendError`` if the request fails, or if the answer has no probability for each level.
    """
    where = transport.address.at(PATH)
    text = _INPUT.render(request.transcript, request.candidate, request.separator)

    def read(answer: _Decisions) -> Score:
        given = answer.answers[_ID].probabilities if _ID in answer.answers else {}
        levels = [given.get(str(level), math.nan) for level in range(len(LEVEL_TEXTS))]
        if not (min(levels) >= 0 and abs(math.fsum(levels) - 1) <= _ROUNDING):
            raise BackendError(f"{where} answered with something other than the probabilities of ten levels: {given}")
        try:
            return Score(value=expected_level(levels), usage=counted(answer.usage))
        except CountError as error:
            raise BackendError(f"{where} answered with {error}") from error

    body = {"model": model, "input": text, **_FIELDS}
    return await requested(transport, PATH, body, request.problem, _DECODER, read)


async def without_decisions(transport: Transport, model: str, request: ScoreRequest, written: Score) -> str | None:
    """Return why ``model`` cannot be asked for levels.

    None if they rate ``request`` as the token that it wrote, with the score ``written``.
    """
    where = transport.address.at(PATH)
    try:
        found = await decided(transport, model, request)
    except BackendError as error:
        return f"{where} gives no levels: {error}"
    if found.usage.prompt_tokens != written.usage.prompt_tokens:
        return (
            f"{where} reads {found.usage.prompt_tokens} tokens where the prompt has {written.usage.prompt_tokens}: "
            "does the server have the chat template of the tokenizer?"
        )
    if abs(found.value - written.value) > TOLERANCE:
        return f"{where} rates a step {found.value:.3f} that the written token rates {written.value:.3f}"
    return None
