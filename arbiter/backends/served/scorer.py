"""Scores from a server that reads a text as a classifier does.

Only the numbers of the newest step make its score. A number that is missing, not finite or outside the range of the
dialect is an error, never a score.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.completion_answers import CountError, requested
from arbiter.backends.served.context_room import refuse_cut
from arbiter.backends.served.dialects import Logits, Range, ScoreAnswer, ScoreDialect, ShapeError
from arbiter.backends.served.transport import Transport
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Score, ScoreRequest

_NO_NUMBER = re.compile(rb"-?\b(NaN|Infinity)\b")  # as Python's json writes them; other servers write null
_MARGIN = 1.1  # tokens have different lengths
_TOGETHER = 1e-2  # how far the sum of two probabilities may be from 1: bfloat16 has 8 bits


class ServedScorer:
    """A ``Scorer`` over a transport.

    The score is the sigmoid of one logit, or the softmax probability of class 1 of two. Dialects that return
    probabilities give the score directly. For several ``targets``, each has two logits, in their order. ``step_tag``
    follows each step. ``context`` is the model's context in tokens, if the server reports it.
    """

    def __init__(
        self,
        transport: Transport,
        model: str,
        template: PromptTemplate,
        dialect: ScoreDialect,
        targets: int = 1,
        step_tag: str | None = None,
        context: int | None = None,
    ) -> None:
        self._transport = transport
        self._model = model
        self._template = template
        self._dialect = dialect
        self._targets = targets
        self._step_tag = step_tag
        self.context = context
        """The size of the model's context in tokens, if the server reports it."""

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate.

        Raises ``BackendError`` if the request fails, if the answer is not a score, or if the text fills the context.
        """
        return self._score_of(await self._read(request))

    @property
    def scores_blocks(self) -> bool:
        """Whether the server reads several texts in one request."""
        return self._dialect.takes_lists

    async def score_block(self, requests: tuple[ScoreRequest, ...]) -> tuple[Score, ...]:
        """Score several candidates in one request, which has a text for each. Raises as ``score``.

        Servers count the tokens of all texts together. So the longest text must stay a tenth below the context: it is
        only known by its characters.
        """
        texts = [text_of(self._template, request, self._step_tag) for request in requests]
        answers = await self._read_all(requests, self._dialect.request_fields(texts))
        tokens = sum(answer.usage.prompt_tokens for answer in answers)
        longest = tokens * max(map(len, texts)) / max(sum(map(len, texts)), 1)
        refuse_cut(math.ceil(_MARGIN * longest), self.context, self._where)
        return tuple(map(self._score_of, answers))

    async def check(self, request: ScoreRequest) -> None:
        """Score one candidate, and check that the server returns raw logits where the dialect requests them.

        Raises as ``score``, and ``BackendError`` if the server returns the same probabilities for both requests.
        """
        raw = await self._read(request)
        try:
            self._score_of(raw)
        except BackendError as error:
            tokens = raw.usage.prompt_tokens
            if tokens and len(raw.numbers) in (tokens, 2 * tokens):
                raise BackendError(
                    f"{error} The server returns one or two numbers per token of the text: "
                    'set scores = "token-embeddings"'
                ) from error
            raise
        if self._dialect.softened is None:
            return
        soft = await self._read(request, self._dialect.softened)
        if raw.numbers == soft.numbers and _are_probabilities(raw.numbers):
            raise BackendError(
                f"{self._where} answers with {raw.numbers} to requests for raw logits (use_activation = false) and for "
                "probabilities alike. Use a vLLM that honours the field (0.32.0 does), or a model without a sigmoid in "
                "its head"
            )

    @property
    def _where(self) -> str:
        return self._transport.address.at(self._dialect.path)

    async def _read(self, request: ScoreRequest, changes: Mapping[str, Any] | None = None) -> ScoreAnswer:
        text = text_of(self._template, request, self._step_tag)
        [answer] = await self._read_all((request,), self._dialect.request_fields(text), changes)
        refuse_cut(answer.usage.prompt_tokens, self.context, self._where)
        return answer

    async def _read_all(
        self, requests: tuple[ScoreRequest, ...], fields: Mapping[str, Any], changes: Mapping[str, Any] | None = None
    ) -> list[ScoreAnswer]:
        """Return the numbers for each of ``requests``, whose texts are in ``fields``."""
        dialect, steps = self._dialect, [len(request.transcript.steps) + 1 for request in requests]
        body = {"model": self._model, **fields, **(changes or {})}
        try:
            return await requested(
                self._transport,
                dialect.path,
                body,
                requests[0].problem,
                dialect.decoder,
                lambda answer: [dialect.read(answer, index, count) for index, count in enumerate(steps)],
                _with_null,
            )
        except IndexError as error:
            raise BackendError(f"{self._where} answered without a score. Is a classifier served there?") from error
        except (ShapeError, CountError) as error:
            raise BackendError(f"{self._where} answered with {error}") from error

    def _score_of(self, reading: ScoreAnswer) -> Score:
        logits, where, expected = reading.numbers, self._where, self._dialect.range
        if self._targets == 1:
            return Score(value=probability(logits, where, expected), usage=reading.usage)
        if len(logits) != 2 * self._targets:
            raise BackendError(f"{where} answered with {len(logits)} numbers; {labels_of(self._targets)}")
        pairs = zip(logits[::2], logits[1::2], strict=True)
        estimates = tuple(probability(list(pair), where, expected) for pair in pairs)
        return Score(max(estimates), reading.usage, estimates=estimates)


def _with_null(answer: bytes) -> bytes:
    """Return an answer with ``null`` in place of numbers that JSON does not have."""
    if b"NaN" in answer or b"Infinity" in answer:  # nearly never, and the search takes ten times as long
        return _NO_NUMBER.sub(b"null", answer)
    return answer


def text_of(template: PromptTemplate, request: ScoreRequest, step_tag: str | None) -> str:
    """Return the text that a scorer reads. ``step_tag``, or the separator if it is None, follows each step.

    Spaces at the end of the last tag are removed, so that the text ends with the token that the scorer reads.
    """
    tag = step_tag or request.separator
    text = template.render_candidate(request.transcript, request.candidate, request.author, tag)
    blanks = len(tag) - len(tag.rstrip()) if step_tag and step_tag.strip() else 0
    return text[: len(text) - blanks]


def labels_of(targets: int) -> str:
    """Return, as words, how many labels a scorer has."""
    if targets == 1:
        return "a scorer has one (a value) or two (classes)"
    return f"a router of {targets} targets has {2 * targets} (two classes for each target)"


def probability(numbers: Logits, where: str, known: Range = "logits") -> float:
    """Return the score in [0, 1] of a classifier's ``numbers``: one is a value, two are classes 0 and 1.

    ``known`` is the range of the numbers. Raises ``BackendError``, which names the server ``where``, if there are not
    one or two numbers in that range.
    """
    values = [math.nan if number is None else number for number in numbers]
    if len(values) not in (1, 2):
        raise BackendError(
            f"{where} answered with {len(values)} numbers; {labels_of(1)}. "
            "Is a language model or an embedding model served there?"
        )
    if not all(map(math.isfinite, values)):
        raise BackendError(
            f"{where} answered with a score that is not a number: {numbers}. "
            "Does the model overflow in its dtype? Try bfloat16 or float32"
        )
    if known == "probabilities":
        if not _are_probabilities(values):
            raise BackendError(
                f"{where} answered with {numbers} to a request for probabilities (each in [0, 1]; the sum of two is "
                "1). Does the dialect match the model that is served there?"
            )
        return min(values[-1], 1.0)
    margin = values[0] if len(values) == 1 else values[1] - values[0]
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1 + math.exp(margin))


def _are_probabilities(numbers: Sequence[float | None]) -> bool:
    values = [math.nan if number is None else number for number in numbers]
    together = len(values) == 1 or math.isclose(math.fsum(values), 1, abs_tol=_TOGETHER)
    return all(0 <= value <= 1 for value in values) and together
