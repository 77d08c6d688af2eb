"""Steps from any server with ``/v1/completions``: sglang, vLLM, llama.cpp, transformers serve, hosted endpoints.

Each engine reports what stopped an answer, the separator or the end, in its own field; some report nothing
(``ending_of``). Token counts are those of the server's ``usage``; no text is tokenised again to count it. If a server
continued after the separator, the tokens are divided in proportion to characters.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from arbiter.backends.call_formats.forms import SPECIAL_MARKS
from arbiter.backends.full_context import full_context
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served import chat_hosts
from arbiter.backends.served.completion_answers import (
    OPENAI,
    CompletionAnswer,
    CompletionApi,
    EndSigns,
    before_separator,
    ending_of,
    ending_of_whole,
)
from arbiter.backends.served.completion_streams import hearing_of
from arbiter.backends.served.constraints import ServerConstraints
from arbiter.backends.served.context_room import refuse_cut, within_context
from arbiter.backends.served.draft_memory import DraftMemory
from arbiter.backends.served.logprobs import Logprobs, alternatives, alternatives_option, confidence_of
from arbiter.backends.served.problem_sessions import release_at
from arbiter.backends.served.prompt_form import PromptForm, as_text
from arbiter.backends.served.request_fields import priority_of
from arbiter.backends.served.token_steps import TokenSteps, Written
from arbiter.backends.served.transport import TemporaryError, Transport
from arbiter.backends.served.written_tokens import written_tokens_of
from arbiter.config.model_tables import Engine
from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.ports import Generation, GenerationRequest, Say
from arbiter.protocols.records import PENALTIES, StopReason, Transcript, Usage

log = logging.getLogger("arbiter.backends")

_PROBE_TOKENS = 4


class MissingLogprobsError(BackendError):
    """An answer lacks the log-probabilities that were requested."""


class ServedGenerator:
    """A ``Generator`` over a transport.

    - ``model``: the server's name of the model.
    - ``greedily``: fields to send with temperature 0.
    - ``always``: fields to send with every request.
    - ``priority``: the engine, if the server schedules by priority.
    - ``hosted``: the endpoint refuses unknown fields.
    - ``memory``: keeps the log-probabilities of what is written at temperature 0, which are then always requested.
    - ``signs``: what shows that an answer of the server ended.
    - ``context``: the model's context in tokens, if the server reports it.
    - ``form``: in which form prompts are sent.
    - ``chats``: how to make requests to a host of chat completions. Without it, they go to ``/v1/completions``.
    - ``count``: counts the tokens of a prompt, if the tokenizer is known.
    - ``steps``: how steps are sent as tokens, or why the server cannot take and return them.
    - ``api``: how completions are requested.
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
        signs: EndSigns | None = None,
        context: int | None = None,
        chats: chat_hosts.ChatRequests | None = None,
        form: PromptForm = as_text,
        count: Callable[[str], int] | None = None,
        steps: TokenSteps | str = "its server was not asked for tokens",
        api: CompletionApi = OPENAI,
    ) -> None:
        self._transport = transport
        self._model = model
        self._template = template
        self._greedily = greedily or {}
        self._always = always or {}
        self._priority: Engine | None = priority
        self._hosted = hosted
        self._memory = memory
        self._signs = signs or EndSigns()
        self.context = context
        self._chats = chats
        self._form = form
        self._count = count
        self._steps = steps
        self._api = api
        where = transport.address.at(self._path)
        self._streams = True
        self._constraints = ServerConstraints(self._signs.engine, chats is not None, where)

    @property
    def _path(self) -> str:
        return chat_hosts.PATH if self._chats else self._api.path

    @property
    def keeps_marks(self) -> bool:
        """Whether the server can be requested to keep special tokens in its texts."""
        return self._signs.engine in ("sglang", "vllm")

    @property
    def without_logprobs(self) -> str | None:
        """Why the server cannot return the log-probabilities of all tokens of a step; None if that is not known."""
        if self._signs.engine != "llama.cpp":
            return None
        return (
            f"{self._transport.address.url} is served by llama.cpp, which leaves out the tokens before and in the "
            "separator. Serve the model with sglang or vLLM, or run it in process"
        )

    @property
    def without_token_ids(self) -> str | None:
        """Why the model reads its own steps as text; None if it reads the tokens that it wrote."""
        return self._steps if isinstance(self._steps, str) else None

    @property
    def continued(self) -> chat_hosts.Continued | None:
        """How a host of chat completions continues a partial answer; None for ``/v1/completions``."""
        return self._chats.continued if self._chats else None

    def prompt_tokens(self, transcript: Transcript, separator: str) -> int | None:
        """Return the number of tokens in the prompt; None if the tokenizer is not known."""
        return None if self._count is None else self._count(self._template.render(transcript, separator))

    def release(self, problem: str) -> None:
        """Close the problem's session at the server, if it has one."""
        release_at(self._transport, problem)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step, of at most the tokens that the context leaves.

        Raises ``ContextTooLongError`` if the server reports that the first step has no room; ``BackendError`` for other
        failures. A later step without room is empty and ends by its limit. A step under a constraint is the whole
        answer; if the server refuses the constraint, the step is written without it.
        """
        constraint = self._constraints.fields(request.constraint)
        if constraint is not None:
            try:
                return await self._written(request, constraint)
            except (TemporaryError, ContextTooLongError, MissingLogprobsError):
                raise
            except BackendError as error:
                self._constraints.refused(error)
        return await self._written(request)

    async def stream(self, request: GenerationRequest, say: Say) -> Generation:
        """Write one step as ``generate``, and pass its text on to ``say`` as it arrives.

        Chats, and requests for a confidence or under a constraint, are not streamed. A server that refuses a stream is
        requested again without one, and then never again for a stream.
        """
        if not self._streams or self._chats or request.confidence or request.constraint:
            return await self.generate(request)
        try:
            return await self._written(request, say=say)
        except (TemporaryError, ContextTooLongError):
            raise
        except BackendError as error:
            answer = await self._written(request)
            self._streams = False
            log.warning("%s does not stream, so whole steps are passed on: %s", self._transport.address.url, error)
            return answer

    async def _written(
        self, request: GenerationRequest, constraint: Mapping[str, Any] | None = None, say: Say | None = None
    ) -> Generation:
        sampling: dict[str, Any] = {"temperature": request.temperature, **priority_of(request, self._priority)}
        sampling |= {"top_p": request.top_p, "seed": request.seed} if request.temperature > 0 else self._greedily
        if request.penalizes:
            sampling |= {name: getattr(request, name) for name in PENALTIES}
        # No head scores a step that is passed on as it is written.
        is_plain = constraint is None and not request.penalizes and say is None
        remembers = self._memory is not None and request.temperature == 0 and is_plain
        ends = {"stop": [request.separator]} if constraint is None else constraint
        options = {**ends, **self._logprobs(request, remembers), **sampling, **self._marks(request)}
        steps = self._token_steps(request)
        prompt = steps and steps.prompt(self._template, request)
        if steps is not None and prompt is not None:
            options |= {"prompt": prompt, **steps.returned}
        try:
            choice, usage, spent = await self._complete(request, "", request.max_tokens, options, say)
        except ContextTooLongError:
            if not request.transcript.steps:
                raise
            return full_context(request)
        text, ending = choice.text, ending_of_whole(choice)
        if constraint is None:
            text, ending = ending_of(choice, request.separator, self._signs)
        if ending is None:
            ending, more = await self._ending_by_probe(request, text)
            spent += more
            text = before_separator(text, request.separator) if ending == "separator" else text
        if self._memory is not None and remembers:
            context = self._template.render(request.transcript, request.separator)
            self._memory.keep(context, text, request.separator, choice.logprobs or Logprobs())
        confidence = self._confidence(request, choice, text) if request.confidence else None
        kept = _kept(usage, len(text + request.separator), len(choice.text))
        rest = Usage(completion_tokens=usage.completion_tokens - kept.completion_tokens)
        ids, overrun = Written()
        if steps and prompt and choice.token_ids:
            ids, overrun = steps.written(request, prompt, choice.token_ids, text, ending)
        step = Generation(text, ending, kept, spent + rest, confidence=confidence, token_ids=ids, overrun=overrun)
        return self._with_tokens(step, request, choice.logprobs)

    def _token_steps(self, request: GenerationRequest) -> TokenSteps | None:
        """Return how the steps of a request are sent as tokens; None if they are sent as text."""
        return self._steps if request.token_exact and not isinstance(self._steps, str) else None

    def _logprobs(self, request: GenerationRequest, remembers: bool) -> dict[str, Any]:
        """Return the fields that request the log-probabilities that ``request`` or the memory needs."""
        count = alternatives(request.confidence or ("mean" if remembers else None))
        if request.top_logprobs is not None:
            count = max(count, request.top_logprobs, 1)  # some servers take 0 for none at all
        if not count:
            return {}
        return chat_hosts.chat_logprobs(count) if self._chats else alternatives_option(count, self._hosted)

    def _marks(self, request: GenerationRequest) -> dict[str, bool]:
        """Return the field that keeps special tokens in the answer, where the model's calls are marked with them."""
        rules = request.transcript.rules
        calls = rules is not None and rules.offered and self._template.calls in SPECIAL_MARKS
        marked = calls or self._template.calls == "harmony"  # whose answers have marks without any call
        return {"skip_special_tokens": False} if marked and self.keeps_marks else {}

    def _confidence(self, request: GenerationRequest, choice: CompletionAnswer, text: str) -> float:
        """Return the confidence in the step ``text``. Raises ``BackendError`` without log-probabilities."""
        logprobs = choice.logprobs
        found = confidence_of(logprobs, request.confidence or "mean", text + request.separator) if logprobs else None
        if found is None:
            where = self._transport.address.at(self._path)
            raise MissingLogprobsError(
                f"{where} answered without log-probabilities, which the draft's confidence needs. Serve the "
                "draft with an engine that returns `logprobs` (sglang, vLLM, llama.cpp), or run it in process; a "
                "'generate' run does not need them if `confidence` is left out"
            )
        return found

    def _with_tokens(self, step: Generation, request: GenerationRequest, logprobs: Logprobs | None) -> Generation:
        """Return ``step`` with its tokens, if they are requested. Raises ``MissingLogprobsError`` without them."""
        if request.top_logprobs is None:
            return step
        whole = step.text + request.separator + step.overrun if step.stop_reason == "separator" else step.text
        tokens = written_tokens_of(logprobs or Logprobs(), whole, request.top_logprobs)
        if tokens is None:
            raise MissingLogprobsError(
                f"{self._transport.address.at(self._path)} answered without a log-probability for each token of its "
                "text, with the separator after it. Leave log-probabilities out of the request, or serve the model "
                "with sglang or vLLM, or run it in process"
            )
        return msgspec.structs.replace(step, tokens=tokens)

    async def _ending_by_probe(self, request: GenerationRequest, written: str) -> tuple[StopReason, Usage]:
        """Return ``end`` if the model writes nothing after the step ``written``, at temperature 0, without stop texts.

        This is for servers that do not report what stopped an answer. It costs one short request, whose prompt the
        server has just read.
        """
        try:
            choice, usage, spent = await self._complete(request, written, _PROBE_TOKENS, {"temperature": 0})
        except ContextTooLongError:
            return "limit", Usage()
        return "separator" if choice.text else "end", usage + spent

    async def _complete(
        self, request: GenerationRequest, written: str, max_tokens: int, options: dict[str, Any], say: Say | None = None
    ) -> tuple[CompletionAnswer, Usage, Usage]:
        """Return what follows ``written`` in the context, its tokens, and those of requests that only counted it."""
        transcript, separator, problem = request.transcript, request.separator, request.problem
        body = {"model": self._model, **options, **self._always}
        if not self._chats and "prompt" not in body:
            body["prompt"] = self._form(self._template.render(transcript, separator) + written)

        hearing = hearing_of(separator, say)

        async def attempt(most: int) -> tuple[CompletionAnswer, Usage]:
            sent = body | {"max_tokens": most}
            if self._chats:
                return await self._chats.complete(transcript, separator, written, sent, problem)
            # a request of one token may be for the count of the prompt's tokens alone
            return await self._api.complete(self._transport, sent, problem, None if most == 1 else hearing)

        answer = await within_context(attempt, max_tokens, self.context)
        refuse_cut(answer[1].prompt_tokens, self.context, self._transport.address.at(self._path))
        return answer


def _kept(usage: Usage, kept: int, written: int) -> Usage:
    """Return the part of ``usage`` for the first ``kept`` of the ``written`` characters of an answer.

    A server that ignores ``stop`` also counts the tokens after the separator. They must not count against the
    problem's limits.
    """
    if kept >= written:
        return usage
    tokens = math.ceil(usage.completion_tokens * kept / written)
    return msgspec.structs.replace(usage, completion_tokens=tokens)
