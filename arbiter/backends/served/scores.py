"""Scores from a server: a sequence classifier read at the last token, in the dialects that give raw logits.

sglang's ``/v1/classify`` is not among them: it applies a softmax, which makes 1.0 of every value head.
"""

import math
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.transport import Transport, persistent, understood
from protocols.errors import BackendError
from protocols.ports import Score, ScoreRequest
from protocols.records import Usage

Dialect = Literal["classify", "embeddings"]
Logits = list[float | None]

_NO_NUMBER = re.compile(rb"-?\b(NaN|Infinity)\b")  # as Python's json writes them; other servers write null


class _Meta(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = 0
    cached_tokens: int | None = 0


class _Classified(msgspec.Struct, frozen=True):
    embedding: Logits
    meta_info: _Meta = _Meta()


class _Embedding(msgspec.Struct, frozen=True):
    embedding: Logits


class _EmbeddingUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = 0


class _Embedded(msgspec.Struct, frozen=True):
    data: list[_Embedding]
    usage: _EmbeddingUsage | None = None


class _Speech(NamedTuple):
    """A dialect: where to ask, what to send, and how to read the answer."""

    path: str
    asked: str
    decoder: "msgspec.json.Decoder[Any]"
    read: Callable[[Any], tuple[Logits, Usage]]


def _classified(answer: _Classified | list[_Classified]) -> tuple[Logits, Usage]:
    first = answer[0] if isinstance(answer, list) else answer
    return first.embedding, Usage(first.meta_info.prompt_tokens or 0, 0, first.meta_info.cached_tokens or 0)


def _embedded(answer: _Embedded) -> tuple[Logits, Usage]:
    tokens = answer.usage.prompt_tokens if answer.usage else 0
    return answer.data[0].embedding, Usage(tokens or 0)


DIALECTS: dict[Dialect, _Speech] = {
    "classify": _Speech("/classify", "text", msgspec.json.Decoder(_Classified | list[_Classified]), _classified),
    "embeddings": _Speech("/v1/embeddings", "input", msgspec.json.Decoder(_Embedded), _embedded),
}


class ServedScorer:
    """A ``Scorer`` over a transport: sigmoid of a single logit, or the softmax's probability of class 1 of two.

    For several ``targets`` there are two logits for each, in their order.
    """

    def __init__(
        self, transport: Transport, model: str, template: PromptTemplate, dialect: Dialect, targets: int = 1
    ) -> None:
        self._transport = transport
        self._model = model
        self._template = template
        self._speech = DIALECTS[dialect]
        self._targets = targets

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate. Raises ``BackendError`` if what comes back is no score."""
        text = self._template.render_candidate(request.transcript, request.candidate, request.author, request.separator)
        address, speech = self._transport.address, self._speech
        body = {"model": self._model, speech.asked: text}
        answer = await persistent(address, lambda: self._transport.post(speech.path, body))
        try:
            answer = _NO_NUMBER.sub(b"null", answer)
            logits, usage = speech.read(understood(address, speech.path, answer, speech.decoder))
        except IndexError as error:
            raise BackendError(
                f"{address.url}{speech.path} answered without a score. Is a classifier served there?"
            ) from error
        where = address.url + speech.path
        if self._targets == 1:
            return Score(value=probability(logits, where), usage=usage)
        if len(logits) != 2 * self._targets:
            raise BackendError(f"{where} answered with {len(logits)} numbers; {labels_of(self._targets)}")
        estimates = tuple(probability(list(pair), where) for pair in zip(logits[::2], logits[1::2], strict=True))
        return Score(max(estimates), usage, estimates=estimates)


def labels_of(targets: int) -> str:
    """How many labels a scorer has, in words."""
    if targets == 1:
        return "a scorer has one (a value) or two (classes)"
    return f"a router of {targets} targets has {2 * targets} (two classes for each target)"


def probability(logits: Logits, where: str) -> float:
    """The score in [0, 1] of a classifier's raw ``logits``. Raises ``BackendError`` if they are not one or two numbers.

    One logit is a value head, two are classes, of which class 1 is asked for.
    """
    values = [math.nan if logit is None else logit for logit in logits]
    if len(values) not in (1, 2):
        raise BackendError(
            f"{where} answered with {len(values)} numbers; {labels_of(1)}. "
            "Is a language model or an embedding model served there?"
        )
    if not all(map(math.isfinite, values)):
        raise BackendError(
            f"{where} answered with a score that is not a number: {logits}. "
            "Does the model overflow in its dtype? Try bfloat16 or float32"
        )
    margin = values[0] if len(values) == 1 else values[1] - values[0]
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else 1 - 1 / (1 + math.exp(margin))
