"""Scores of a head on a served draft, from the log-probabilities of a step alone.

A step that the draft has just written at temperature 0 comes with its log-probabilities, so its score needs no further
request. Any other step (after a resume, or from another author) is read once more by the server. Both ways give the
same score, except for the numerics of the server: the remembered log-probabilities are used only if the draft wrote
exactly the tokens that would be read.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio.to_thread
import msgspec

from arbiter.backends.draft_features import CandidateReading, split_tokens
from arbiter.backends.head_model import DraftHead
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.completion_answers import complete
from arbiter.backends.served.draft_memory import DraftMemory
from arbiter.backends.served.engine_logprobs import LOGPROB_DIALECTS, LogprobQuery, read_answer
from arbiter.backends.served.served_models import open_transport
from arbiter.backends.served.transport import Transport
from arbiter.backends.token_texts import TransformersTokenTexts, appends_end, prompt_tokens
from arbiter.backends.tokenizers import read_tokenizer
from arbiter.config.model_tables import Engine, HostedTable, ServedTable
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Score, Scorer, ScoreRequest
from arbiter.protocols.records import Transcript, Usage

_TRIAL_CONTEXT, _TRIAL_STEP = Transcript("Compute 1+1."), "2"


class ServedHead:
    """A ``Scorer``: a head on a served draft.

    ``template`` and ``tokenizer`` (of transformers) are those of the draft, ``model`` is the server's name of it, and
    ``engine`` the engine of the server. ``memory`` has the steps that the draft wrote.
    """

    def __init__(
        self,
        head: DraftHead,
        transport: Transport,
        model: str,
        template: PromptTemplate,
        tokenizer: Any,  # noqa: ANN401
        memory: DraftMemory,
        engine: Engine,
    ) -> None:
        self._head = head
        self._transport = transport
        self._model = model
        self._template = template
        self._tokenizer = tokenizer
        self._texts = TransformersTokenTexts(tokenizer)
        self._memory = memory
        self._engine: Engine = engine

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate. Raises ``BackendError`` if the request fails, or if the answer lacks a number."""
        self._head.check_separator(request)
        context = self._template.render(request.transcript, request.separator)
        prompt, candidate = split_tokens(self._encode, context, request.candidate + request.separator)
        remembered = self._remembered(request, context, len(prompt), candidate)
        reading = remembered or await self._read(prompt, candidate, request.problem)
        return self._head.score(request, reading, len(prompt) + len(candidate))

    def _remembered(
        self, request: ScoreRequest, context: str, prompt: int, candidate: Sequence[int]
    ) -> CandidateReading | None:
        """Return the reading of a step that the draft wrote with the tokens ``candidate``; None if it did not."""
        written = self._memory.find(context, request.candidate, request.separator)
        if written is None or prompt != len(self._encode(context)):
            return None
        texts = [self._tokenizer.decode([token], skip_special_tokens=False) for token in candidate]
        return CandidateReading(written.logprobs) if texts == list(written.tokens) else None

    def _encode(self, text: str) -> list[int]:
        return prompt_tokens(self._texts, text)

    async def _read(self, prompt: Sequence[int], candidate: Sequence[int], problem: str) -> CandidateReading:
        if not prompt or not candidate:
            raise BackendError("models.router: a head on the draft needs a context and a step that are not empty")
        return await read_logprobs(self._transport, self._model, self._engine, prompt, candidate, problem)


async def read_logprobs(
    transport: Transport, model: str, engine: Engine, prompt: Sequence[int], candidate: Sequence[int], problem: str
) -> CandidateReading:
    """Have a server read ``prompt`` and ``candidate``, and return the log-probabilities of the candidate's tokens.

    Raises ``BackendError`` if the server does not return one for each.
    """
    query = LogprobQuery(model, [*prompt, *candidate], 1, shown=len(candidate))
    read = await read_answer(transport, engine, query, problem)
    if read.logprobs is None:
        raise BackendError(
            f"{transport.address.at(LOGPROB_DIALECTS[engine].path)} answered without the log-probability of each token "
            "that it read, which a head on the draft needs"
        )
    return CandidateReading(read.logprobs, usage=Usage(len(query.tokens), len(read.tokens), read.cached))


async def engine_that_reads(
    transport: Transport,
    model: str,
    template: PromptTemplate,
    tokenizer: Any,  # noqa: ANN401
    engines: Sequence[Engine],
) -> Engine:
    """Return the first of ``engines`` in whose dialect the server returns log-probabilities of a text that it reads.

    Small requests find out. Raises ``BackendError`` if there is none, or if the server counts other tokens.
    """
    context = template.render(_TRIAL_CONTEXT, "\n\n")
    texts = TransformersTokenTexts(tokenizer)
    prompt, candidate = split_tokens(partial(prompt_tokens, texts), context, _TRIAL_STEP)
    url, last = transport.address.url, BackendError("")
    for engine in engines:
        try:
            await read_logprobs(transport, model, engine, prompt, candidate, "")
        except BackendError as error:
            last = error
            continue
        tokens = prompt_tokens(texts, context)
        sent = tokens if appends_end(texts) else context
        _, usage = await complete(transport, {"model": model, "prompt": sent, "max_tokens": 1, "temperature": 0}, "")
        if usage.prompt_tokens not in (0, len(tokens)):
            raise BackendError(
                f"{url} counts {usage.prompt_tokens} tokens where the tokenizer of models.draft counts {len(tokens)}. "
                "Set models.draft.tokenizer to the one that is served"
            )
        return engine
    raise BackendError(
        f"{url} gives no log-probabilities of a text that it reads, which a head on the draft needs. sglang and vLLM "
        f'do (backend = "http"), and a draft in process; or use a separate router model. The last answer: {last}'
    ) from last


@asynccontextmanager
async def open_served_head(
    head: DraftHead, draft: ServedTable, template: PromptTemplate, memory: DraftMemory, in_flight: int
) -> AsyncGenerator[Scorer]:
    """Yield a head on the served draft of the table ``draft``. Small requests check first what the server can read.

    Raises ``ConfigError`` if the draft's tokenizer cannot be read, ``BackendError`` as ``engine_that_reads``.
    """
    name, key = draft.tokenizer or draft.model, "a head on models.draft"
    tokenizer = await anyio.to_thread.run_sync(read_tokenizer, name, key, "use a separate router model")
    engines: tuple[Engine, ...] = ("vllm",) if isinstance(draft, HostedTable) else ("sglang", "vllm")
    async with open_transport("draft", msgspec.structs.replace(draft, in_flight=in_flight)) as transport:
        try:
            engine = await engine_that_reads(transport, draft.model, template, tokenizer, engines)
        except BackendError as error:
            raise BackendError(f"models.router: {error}") from error
        yield ServedHead(head, transport, draft.model, template, tokenizer, memory, engine)
