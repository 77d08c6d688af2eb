"""Steps of a target that reads a rejected draft, keeps what it would have written itself, and writes the rest.

Only at temperature 0, and exact under conditions that are kept here: context and draft are tokenised apart, and the
model goes on from tokens, never from text that was joined again; separator and end are looked for in what was agreed
on and across its join, since servers look for them in what they write alone; penalties are off; limits count the
tokens agreed on. What is left is the server's own numerics: of two choices that are almost equal, reading may bring the
one and writing the other.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.engine_logprobs import LOGPROB_DIALECTS, LogprobAnswer, LogprobQuery
from arbiter.backends.served.generator import ServedGenerator, check_reason, priority_of
from arbiter.backends.served.transport import Transport, persistent, understood
from arbiter.backends.step_tokens import StepTokens, agreed_tokens, agreement, proposed_tokens
from arbiter.config.model_tables import Engine
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import StopReason, Usage

_JOIN = 5  # tokens of the context that a step's own are decoded behind, as servers do


class VerificationSettings(msgspec.Struct, frozen=True):
    """What it takes to check proposals: the server's engine, and the model's tokens.

    ``tokenizer`` is one of transformers; ``ends`` end an answer, and those are added that the server names. ``context``
    is how many tokens the model's holds, where the server says so.
    """

    engine: Engine
    tokenizer: Any
    ends: set[int]
    context: int | None = None
    priority: Engine | None = None


class VerifyingGenerator:
    """A ``Generator`` that checks proposals; ``plain`` writes what comes without one."""

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
        self._speech = LOGPROB_DIALECTS[checks.engine]

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step, or what is missing in the proposal of it. Raises as ``ServedGenerator``."""
        if request.proposal is None or request.temperature > 0:
            return await self._plain.generate(request)
        tokenizer = self._checks.tokenizer
        text = self._template.render(request.transcript, request.separator)
        prompt: list[int] = tokenizer(text)["input_ids"]
        proposal, room = request.proposal, request.max_tokens
        proposed = proposed_tokens(tokenizer, proposal.text, proposal.stop_reason, request.separator, room)
        # what would not fit in the context with all its limit is for the server to refuse, or to cut
        fits = self._checks.context is None or len(prompt) + room <= self._checks.context
        if not (prompt and proposed and fits):
            return await self._plain.generate(request)
        return await self._checked(request, prompt, proposed)

    async def _checked(self, request: GenerationRequest, prompt: list[int], proposed: list[int]) -> Generation:
        read = await self._written(request, LogprobQuery(self._model, [*prompt, *proposed], 1, shown=len(proposed)))
        if read.choices is None or not read.tokens:
            raise BackendError(
                f"{self._transport.address.url}{self._speech.path} answered without the model's own choice for each "
                f"token. Is it {self._checks.engine} that is served there? Set verifies to the engine, or leave it out"
            )
        behind = _Behind(self._checks.tokenizer, prompt[-_JOIN:])
        step = StepTokens(behind, request.separator, self._checks.ends, request.max_tokens)
        step.take(agreed_tokens(proposed, [*read.choices, read.tokens[0]]))
        found_all = len(step.tokens) > len(proposed)  # and then the token that was written behind them is the step's
        overhead = Usage(completion_tokens=len(read.tokens) - found_all)
        if step.ending is None:
            overhead += await self._go_on(request, prompt, step)
        found = agreement(proposed, step)
        overhead += Usage(prompt_tokens=found.proposed - found.matched)
        assert step.ending is not None  # noqa: S101 - it ends, or the model has gone on to its end
        usage = Usage(len(prompt), len(step.tokens), min(read.cached, len(prompt)))
        return Generation(step.text, step.ending, usage, overhead, found)

    async def _go_on(self, request: GenerationRequest, prompt: list[int], step: StepTokens) -> Usage:
        """Have the model write the rest of ``step``; what that cost beside the step's tokens."""
        agreed, room = len(step.tokens), request.max_tokens - len(step.tokens)
        asked = LogprobQuery(self._model, [*prompt, *step.tokens], room, stop=[request.separator])
        written = await self._written(request, asked)
        if not step.take(written.tokens):
            step.close(_ending_of(written, request.separator))
        idle = len(written.tokens) - (len(step.tokens) - agreed)
        return Usage(len(asked.tokens), idle, written.cached)

    async def _written(self, request: GenerationRequest, asked: LogprobQuery) -> LogprobAnswer:
        address, speech = self._transport.address, self._speech
        body = speech.body(asked) | priority_of(request, self._checks.priority)
        answer = await persistent(address, lambda: self._transport.post(speech.path, body, request.problem))
        written = speech.read(understood(address, speech.path, answer, speech.decoder), asked)
        check_reason(written.reason, address.url + speech.path)
        if isinstance(written.matched, int):
            self._checks.ends.add(written.matched)
        return written


class _Behind:
    """A tokenizer that decodes tokens as they stand behind others: some drop a blank at the beginning of a text."""

    def __init__(self, tokenizer: Any, before: Sequence[int]) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self._before = before
        self._skipped = len(tokenizer.decode(before, skip_special_tokens=True))

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool) -> str:
        text: str = self._tokenizer.decode([*self._before, *tokens], skip_special_tokens=skip_special_tokens)
        return text[self._skipped :]


def _ending_of(written: LogprobAnswer, separator: str) -> StopReason:
    """Why the server stopped, where the tokens do not tell."""
    if written.reason == "length":
        return "limit"
    return "separator" if written.matched == separator else "end"
