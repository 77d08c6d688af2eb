"""Steps from any server with ``/v1/completions``: sglang, vLLM, llama.cpp, transformers serve, hosted endpoints.

Each engine reports what stopped an answer, the separator or the end, in its own field; some report nothing
(``ending_of``). Token counts are those of the server's ``usage``; no text is tokenised again to count it. If a server
continued after the separator, the tokens are divided in proportion to characters.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.draft_memory import DraftMemory
from arbiter.backends.served.logprobs import Logprobs, confidence_of, wanted
from arbiter.backends.served.transport import Transport, persistent, understood
from arbiter.config.model_tables import Engine
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import StopReason, Usage

PATH = "/v1/completions"
_PROBE_TOKENS = 4
_GIVEN_UP = frozenset({"abort", "error", "content_filter"})  # a server's reasons for an incomplete answer
_LATER: dict[Engine, int] = {
    "sglang": -1,
    "vllm": 1,
}  # sign of later: sglang serves the highest number first, vLLM the lowest
_AHEAD = 1 << 20  # more than the number of problems in flight
WITHOUT_PENALTIES = {"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1}
"""Sent to a target that checks proposals: the choices that it shows are without penalties, and some servers take
default penalties from the model's generation settings."""


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = 0


class ServerUsage(msgspec.Struct, frozen=True):
    """The token counts that a server reports for a request. Any of them may be missing."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _PromptDetails | None = None


class CompletionAnswer(msgspec.Struct, frozen=True):
    """One answer. The fields of other engines are unset."""

    text: str
    finish_reason: str | None = None
    matched_stop: str | int | list[int] | msgspec.UnsetType | None = msgspec.UNSET  # sglang: the text, or a token
    stop_reason: str | int | msgspec.UnsetType | None = msgspec.UNSET  # vLLM: the text, or a token, or null at the end
    stopping_word: str | msgspec.UnsetType | None = msgspec.UNSET  # llama.cpp: the text, or "" at the end
    logprobs: Logprobs | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: list[CompletionAnswer]
    usage: ServerUsage | None = None


_DECODER = msgspec.json.Decoder(_Completion)


class ServedGenerator:
    """A ``Generator`` over a transport.

    - ``model``: the server's name of the model.
    - ``greedily``: fields to send with temperature 0.
    - ``always``: fields to send with every request.
    - ``priority``: the engine, if the server schedules by priority.
    - ``hosted``: the endpoint refuses unknown fields.
    - ``memory``: keeps the log-probabilities of what is written at temperature 0, which are then always requested.
    """

    def __init__(
        self,
        transport: Transport,
        model: str,
        template: PromptTemplate,
        greedily: Mapping[str, Any] | None = None,
        priority: Engine | None = None,
        hosted: bool = False,
        always: Mapping[str, Any] | None = None,
        memory: DraftMemory | None = None,
    ) -> None:
        self._transport = transport
        self._model = model
        self._template = template
        self._greedily = greedily or {}
        self._always = always or {}
        self._priority: Engine | None = priority
        self._hosted = hosted
        self._memory = memory

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step.

        Raises ``ContextTooLongError`` if the server reports that the context is too long; ``BackendError`` for other
        failures.
        """
        prompt = self._template.render(request.transcript, request.separator)
        sampling: dict[str, Any] = {"temperature": request.temperature, **priority_of(request, self._priority)}
        sampling |= {"top_p": request.top_p, "seed": request.seed} if request.temperature > 0 else self._greedily
        remembers = self._memory is not None and request.temperature == 0
        choice, usage = await self._complete(
            request,
            prompt,
            {
                "max_tokens": request.max_tokens,
                "stop": [request.separator],
                **wanted(request.confidence or ("mean" if remembers else None), self._hosted),
                **sampling,
            },
        )
        text, ending = ending_of(choice, request.separator)
        if self._memory is not None and remembers:
            self._memory.keep(prompt, text, request.separator, choice.logprobs or Logprobs())
        confidence = self._confidence(request, choice, text) if request.confidence else None
        if ending is not None:
            kept = _kept(usage, len(text + request.separator), len(choice.text))
            rest = Usage(completion_tokens=usage.completion_tokens - kept.completion_tokens)
            return Generation(text=text, stop_reason=ending, usage=kept, overhead=rest, confidence=confidence)
        ended, spent = await self._would_end(request, prompt + text)
        return Generation(
            text=text, stop_reason="end" if ended else "separator", usage=usage, overhead=spent, confidence=confidence
        )

    def _confidence(self, request: GenerationRequest, choice: CompletionAnswer, text: str) -> float:
        """Return the confidence in the step ``text``. Raises ``BackendError`` without log-probabilities."""
        logprobs = choice.logprobs
        found = confidence_of(logprobs, request.confidence or "mean", text + request.separator) if logprobs else None
        if found is None:
            raise BackendError(
                f"{self._transport.address.url}{PATH} answered without log-probabilities, which the draft's confidence "
                "needs. Serve the draft with an engine that returns `logprobs` (sglang, vLLM, llama.cpp), or run it in "
                "process; a 'generate' run does not need them if `confidence` is left out"
            )
        return found

    async def _would_end(self, request: GenerationRequest, written: str) -> tuple[bool, Usage]:
        """Return whether the model writes nothing after ``written``, at temperature 0 and without stop texts.

        This is for servers that do not report what stopped an answer. It costs one short request, whose prompt the
        server has just read.
        """
        choice, usage = await self._complete(request, written, {"max_tokens": _PROBE_TOKENS, "temperature": 0})
        return not choice.text, usage

    async def _complete(
        self, request: GenerationRequest, prompt: str, options: dict[str, Any]
    ) -> tuple[CompletionAnswer, Usage]:
        return await complete(
            self._transport, {"model": self._model, "prompt": prompt, **options, **self._always}, request.problem
        )


async def complete(transport: Transport, body: Mapping[str, Any], problem: str) -> tuple[CompletionAnswer, Usage]:
    """Request a completion for ``problem``. Return its first choice and its tokens.

    Raises ``BackendError`` if there is no choice, or the choice is incomplete.
    """
    address = transport.address
    answer = await persistent(address, lambda: transport.post(PATH, body, problem))
    completion: _Completion = understood(address, PATH, answer, _DECODER)
    if not completion.choices:
        raise BackendError(f"{address.url}{PATH} answered without a choice. Is a language model served there?")
    choice = completion.choices[0]
    check_reason(choice.finish_reason, address.url + PATH)
    return choice, counted(completion.usage)


def check_reason(reason: str | None, where: str) -> None:
    """Raise ``BackendError`` if ``reason`` means that the server did not complete its answer."""
    if reason in _GIVEN_UP:
        raise BackendError(f"{where} did not complete its answer ({reason}). The server's log may say why")


def priority_of(request: GenerationRequest, engine: Engine | None) -> dict[str, int]:
    """Return the field that gives a request its priority: older problems first, requests ahead of need last.

    Every request has one, since sglang serves requests without one last. Empty without ``engine``.
    """
    if engine is None:
        return {}
    return {"priority": _LATER[engine] * (request.order + _AHEAD * request.ahead)}


def ending_of(choice: CompletionAnswer, separator: str) -> tuple[str, StopReason | None]:
    """Return the step's text and its stop reason, or None if the server does not distinguish separator and end.

    A separator in the text counts first: the server left it in, or did not honour ``stop``.
    """
    text, found, _ = choice.text.partition(separator)
    if found:
        return text, "separator"
    if choice.finish_reason == "length":
        return text, "limit"
    for named in (choice.matched_stop, choice.stop_reason, choice.stopping_word):
        if named is not msgspec.UNSET:
            return text, "separator" if named == separator else "end"
    return text, None


def _kept(usage: Usage, kept: int, written: int) -> Usage:
    """Return the part of ``usage`` for the first ``kept`` of the ``written`` characters of an answer.

    A server that ignores ``stop`` also counts the tokens after the separator. They must not count against the
    problem's limits.
    """
    if kept >= written:
        return usage
    tokens = math.ceil(usage.completion_tokens * kept / written)
    return msgspec.structs.replace(usage, completion_tokens=tokens)


def counted(usage: ServerUsage | None) -> Usage:
    """Return the tokens of one request as its server counted them; zero if it reports none."""
    if usage is None:
        return Usage()
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    return Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, cached or 0)
