"""Steps from any server that speaks ``/v1/completions``: sglang, vLLM, llama.cpp, transformers serve, hosted ones.

What stopped an answer, the separator or the end, is told by each engine in its own field, and by some in none
(``ending_of``). Tokens are those of the server's ``usage``; no text is encoded again to count it. Where a server
wrote on behind the separator, they are shared out by characters.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.logprobs import Logprobs, confidence_of, wanted
from arbiter.backends.served.transport import Transport, persistent, understood
from arbiter.config.model_tables import Engine
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import StopReason, Usage

PATH = "/v1/completions"
_PROBE_TOKENS = 4
_GIVEN_UP = frozenset({"abort", "error", "content_filter"})  # reasons with which a server drops an answer half-way
_LATER: dict[Engine, int] = {"sglang": -1, "vllm": 1}  # one serves the highest number first, one the lowest
_AHEAD = 1 << 20  # more than there are problems that somebody waits for
WITHOUT_PENALTIES = {"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1}
"""Said by a target that checks proposals: what it shows of its choices has none, and some servers take a default from
the model's generation settings."""


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = 0


class ServerUsage(msgspec.Struct, frozen=True):
    """What a server says of a request's tokens; any of it may be missing."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _PromptDetails | None = None


class CompletionAnswer(msgspec.Struct, frozen=True):
    """One answer. The engines' own fields are unset where another engine answered."""

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
    """A ``Generator`` over a transport. ``model`` is the server's name of it.

    ``greedily`` is sent beside temperature 0, ``always`` with each request; ``priority`` is the engine, if it schedules
    by priorities; a ``hosted`` one refuses fields that it does not know.
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
    ) -> None:
        self._transport = transport
        self._model = model
        self._template = template
        self._greedily = greedily or {}
        self._always = always or {}
        self._priority: Engine | None = priority
        self._hosted = hosted

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step. Raises ``BackendError``; ``ContextTooLongError`` if the server says so."""
        prompt = self._template.render(request.transcript, request.separator)
        sampling: dict[str, Any] = {"temperature": request.temperature, **priority_of(request, self._priority)}
        sampling |= {"top_p": request.top_p, "seed": request.seed} if request.temperature > 0 else self._greedily
        choice, usage = await self._complete(
            request,
            prompt,
            {
                "max_tokens": request.max_tokens,
                "stop": [request.separator],
                **wanted(request.confidence, self._hosted),
                **sampling,
            },
        )
        text, ending = ending_of(choice, request.separator)
        sure = self._confidence(request, choice, text) if request.confidence else None
        if ending is not None:
            kept = _kept(usage, len(text + request.separator), len(choice.text))
            rest = Usage(completion_tokens=usage.completion_tokens - kept.completion_tokens)
            return Generation(text=text, stop_reason=ending, usage=kept, overhead=rest, confidence=sure)
        ended, spent = await self._would_end(request, prompt + text)
        return Generation(
            text=text, stop_reason="end" if ended else "separator", usage=usage, overhead=spent, confidence=sure
        )

    def _confidence(self, request: GenerationRequest, choice: CompletionAnswer, text: str) -> float:
        """Of the step ``text``. Raises ``BackendError`` if the server shows no log-probabilities."""
        told = choice.logprobs
        found = confidence_of(told, request.confidence or "mean", text + request.separator) if told else None
        if found is None:
            raise BackendError(
                f"{self._transport.address.url}{PATH} answered without log-probabilities, from which the draft's "
                "confidence is computed. Serve the draft with an engine that answers `logprobs` (sglang, vLLM, "
                "llama.cpp), or run it in process; a 'generate' run does without where `confidence` is left out"
            )
        return found

    async def _would_end(self, request: GenerationRequest, written: str) -> tuple[bool, Usage]:
        """Whether the model writes nothing more after ``written``, at temperature 0, when nothing else can stop it.

        For servers that do not say what stopped them: one short request, whose prompt they have just read.
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
    """The first choice of a completion for a ``problem``, and its tokens.

    Raises ``BackendError`` if there is none, or half of one.
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
    """Raises ``BackendError`` if it is one with which a server drops an answer half-way."""
    if reason in _GIVEN_UP:
        raise BackendError(f"{where} gave the answer up half-way ({reason}). The server's own log may tell why")


def priority_of(request: GenerationRequest, engine: Engine | None) -> dict[str, int]:
    """What ``engine`` is told, so that older problems come first, and what nobody waits for yet after all others.

    Each request is given a number: sglang puts those without one last.
    """
    if engine is None:
        return {}
    return {"priority": _LATER[engine] * (request.order + _AHEAD * request.ahead)}


def ending_of(choice: CompletionAnswer, separator: str) -> tuple[str, StopReason | None]:
    """The step's text, and why it stopped there; None where the server does not tell the separator from the end.

    A separator in the text counts first: the server left it in, or did not honour ``stop`` at all.
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
    """The part of ``usage`` that fell to the first ``kept`` of the ``written`` characters of an answer.

    A server that ignores ``stop`` counts what it wrote behind the separator as well, and that would use up the
    problem's own limits.
    """
    if kept >= written:
        return usage
    tokens = math.ceil(usage.completion_tokens * kept / written)
    return msgspec.structs.replace(usage, completion_tokens=tokens)


def counted(usage: ServerUsage | None) -> Usage:
    """The tokens of one request as its server counted them; none where it counts none."""
    if usage is None:
        return Usage()
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    return Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, cached or 0)
