"""Verified escalation with a served target: it reads a rejected draft, keeps the prefix that it would have written
itself, and writes the rest.

Drafts are only verified at temperature 0. These rules make the step exactly the one that the target writes alone:

- Context and draft have tokens of their own. The model continues from tokens, never from rejoined text.
- Separator and end are searched for in the agreed tokens and across the join, since servers only search their output.
- Penalties are off.
- Limits count the agreed tokens.

Only the server's numerics can differ: of two almost equal choices, reading may give one and writing the other.
"""

import msgspec

from arbiter.backends.call_formats.forms import SPECIAL_MARKS
from arbiter.backends.context_tokens import context_tokens, step_tokens
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.engine_logprobs import LOGPROB_DIALECTS, LogprobAnswer, LogprobQuery, read_answer
from arbiter.backends.served.generator import ServedGenerator
from arbiter.backends.served.request_fields import priority_of
from arbiter.backends.served.transport import Transport
from arbiter.backends.step_tokens import ContextDecoder, StepTokens, agreed_tokens, agreement, proposed_tokens
from arbiter.backends.token_texts import TokenTexts, prompt_tokens
from arbiter.backends.wrapped_generator import written_by
from arbiter.config.model_tables import Engine
from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal, Say
from arbiter.protocols.records import StopReason, Transcript, Usage


class VerificationSettings(msgspec.Struct, frozen=True):
    """The settings for checking proposals.

    - ``engine``: the engine of the server.
    - ``texts``: the model's tokenizer.
    - ``ends``: the tokens that end an answer. Tokens at which the server reports a stop are added.
    - ``context``: the model's context in tokens, if the server reports it.
    - ``priority``: the engine, if the server schedules by priority.
    """

    engine: Engine
    texts: TokenTexts
    ends: set[int]
    context: int | None = None
    priority: Engine | None = None


class VerifyingGenerator:
    """A ``Generator`` that checks proposals. ``plain`` serves requests without one."""

    def __init__(
        self,
        plain: ServedGenerator,
        transport: Transport,
        model: str,
        template: PromptTemplate,
        checks: VerificationSettings,
    ) -> None:
        self._plain = plain
        self._transport = transport
        self._model = model
        self._template = template
        self._checks = checks
        self._dialect = LOGPROB_DIALECTS[checks.engine]
        self.context = checks.context

    @property
    def without_logprobs(self) -> str | None:
        """Why the server cannot return log-probabilities; None if it can, or if that is not known."""
        return self._plain.without_logprobs

    @property
    def without_token_ids(self) -> str | None:
        """Why the model reads its own steps as text; None if it reads the tokens that it wrote."""
        return self._plain.without_token_ids

    def prompt_tokens(self, transcript: Transcript, separator: str) -> int | None:
        """Return the number of tokens in the prompt; None if the tokenizer is not known."""
        return self._plain.prompt_tokens(transcript, separator)

    def release(self, problem: str) -> None:
        """Close the problem's session at the server, if it has one."""
        self._plain.release(problem)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step, or the rest of a proposed one. Raises as ``ServedGenerator``."""
        return await self._write(request, None)

    async def stream(self, request: GenerationRequest, say: Say) -> Generation:
        """Write one step as ``generate``. Its text is passed on to ``say`` as it arrives where no proposal is read."""
        return await self._write(request, say)

    async def _write(self, request: GenerationRequest, say: Say | None) -> Generation:
        rules = request.transcript.rules
        is_exact = request.temperature == 0 and not request.penalizes and request.top_logprobs is None
        if request.proposal is None or not is_exact or (rules and self._template.calls in SPECIAL_MARKS):
            return await written_by(self._plain, request, say)
        prompt, proposed = self._tokens(request, request.proposal)
        room = request.max_tokens
        # if prompt and limit exceed the context, the server decides: it refuses the request or cuts the answer
        fits = self._checks.context is None or len(prompt) + room <= self._checks.context
        if not (prompt and proposed and fits):
            return await written_by(self._plain, request, say)
        try:
            checked = await self._checked(request, prompt, proposed)
        except ContextTooLongError:
            checked = Usage()
        if isinstance(checked, Generation):
            return checked
        plain = await written_by(self._plain, request, say)
        return msgspec.structs.replace(plain, overhead=plain.overhead + checked)

    async def _checked(self, request: GenerationRequest, prompt: list[int], proposed: list[int]) -> Generation | Usage:
        """Return the step. If neither its tokens nor the server show what ended it, return the tokens that it took."""
        read = await self._send(request, LogprobQuery(self._model, [*prompt, *proposed], 1, shown=len(proposed)))
        if read.choices is None or not read.tokens:
            raise BackendError(
                f"{self._transport.address.at(self._dialect.path)} answered without the model's own choice for each "
                f"token. Is its engine {self._checks.engine}? Set verifies to the engine, or leave it out"
            )
        decoder = ContextDecoder(self._checks.texts, prompt)
        step = StepTokens(decoder, request.separator, self._checks.ends, request.max_tokens)
        step.take(agreed_tokens(proposed, [*read.choices, read.tokens[0]]))
        found_all = len(step.tokens) > len(proposed)  # then the token written after them belongs to the step too
        overhead = Usage(completion_tokens=len(read.tokens) - found_all)
        if step.ending is None:
            overhead += await self._continue(request, prompt, step)
        if step.ending is None:
            return overhead + Usage(len(prompt) + len(proposed), len(step.tokens), read.cached)
        found = agreement(proposed, step)
        overhead += Usage(prompt_tokens=found.proposed - found.matched)
        usage = Usage(len(prompt), len(step.tokens), min(read.cached, len(prompt)))
        made = Generation(step.text, step.ending, usage, overhead, found)
        if not self._by_tokens(request):
            return made
        return msgspec.structs.replace(made, token_ids=tuple(step.tokens), overrun=step.overrun)

    def _by_tokens(self, request: GenerationRequest) -> bool:
        return request.token_exact and self._plain.without_token_ids is None

    def _tokens(self, request: GenerationRequest, proposal: Proposal) -> tuple[list[int], list[int]]:
        """Return the tokens of the context, and those of the proposal: at most one less than the step may have."""
        texts, separator, room = self._checks.texts, request.separator, request.max_tokens
        if self._by_tokens(request):
            prompt = context_tokens(texts, self._template, request.transcript, separator, request.wrote)
            return prompt, step_tokens(texts, proposal, separator, room)
        prompt = prompt_tokens(texts, self._template.render(request.transcript, separator))
        return prompt, proposed_tokens(texts, proposal.text, proposal.stop_reason, separator, room)

    async def _continue(self, request: GenerationRequest, prompt: list[int], step: StepTokens) -> Usage:
        """Have the model write the rest of ``step``. Return the cost besides the tokens of the step."""
        agreed, room = len(step.tokens), request.max_tokens - len(step.tokens)
        query = LogprobQuery(self._model, [*prompt, *step.tokens], room, stop=[request.separator])
        written = await self._send(request, query)
        ending = self._ending_of(written, request.separator)
        if not step.take(written.tokens) and ending is not None:
            step.close(ending)
        idle = len(written.tokens) - (len(step.tokens) - agreed)
        return Usage(len(query.tokens), idle, written.cached)

    async def _send(self, request: GenerationRequest, query: LogprobQuery) -> LogprobAnswer:
        more = priority_of(request, self._checks.priority)
        written = await read_answer(self._transport, self._checks.engine, query, request.problem, **more)
        # a token that may complete the separator is no end, although the server stops there
        stop = written.matched
        if isinstance(stop, int) and request.separator[-1] not in self._checks.texts.decode([stop]):
            self._checks.ends.add(stop)
        return written

    def _ending_of(self, written: LogprobAnswer, separator: str) -> StopReason | None:
        """Return the stop reason that the server reports; None if it reports none. For steps whose tokens show none."""
        if written.reason == "length":
            return "limit"
        if written.matched == separator:
            return "separator"
        ended = written.matched is None if self._checks.engine == "vllm" else written.matched in self._checks.ends
        return "end" if ended else None
