"""Generate steps with a causal language model in process.

Each row draws its sampling noise from the seed of its request, so the other rows of a batch have no influence on it.

A proposed step is read together with its prompt. The model's own choice after each proposed token shows the prefix that
the model would have written itself. That prefix is kept, and the rest is discarded.

A row whose confidence or whose tokens are requested takes the log-probabilities of its tokens from the raw logits:
temperature, ``top_p`` and penalties do not affect them. Such a row reads no proposal, nor does one with penalties.

A row under a constraint chooses among the tokens that the constraint allows. No separator ends its step, because the
JSON may contain it, and it reads no proposal.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from arbiter.backends.confidence import confidence_at, mean_confidence
from arbiter.backends.context_tokens import context_tokens, step_tokens
from arbiter.backends.draft_features import CandidateReading
from arbiter.backends.full_context import full_context
from arbiter.backends.in_process.candidate_reading import ReadRequest, ReadRow
from arbiter.backends.in_process.continuous_batching import Engine, Outputs
from arbiter.backends.in_process.llama import LlamaModel
from arbiter.backends.in_process.model_loading import Loaded, too_long
from arbiter.backends.in_process.token_drawing import draw
from arbiter.backends.in_process.token_penalties import TokenPenalties
from arbiter.backends.in_process.token_records import TokenNames, TokenRecords
from arbiter.backends.loop_calls import running_soon
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.step_blocks import written_in_turn
from arbiter.backends.step_tokens import SeparatorTokens, StepTokens, agreed_tokens, agreement, proposed_tokens
from arbiter.backends.token_texts import TokenTexts, prompt_tokens
from arbiter.protocols.errors import BackendError, ContextTooLongError, not_installed
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.ports import Generation, GenerationRequest, Say
from arbiter.protocols.records import Transcript, Usage

if TYPE_CHECKING:
    from arbiter.backends.in_process.constrained import Constraints, TokenMask


class InProcessGenerator:
    """A ``Generator`` over a loaded model, and a ``TokenReader``. ``engine.worker`` must run while it is in use."""

    def __init__(self, loaded: Loaded, template: PromptTemplate, largest_batch: int) -> None:
        self._loaded = loaded
        self._template = template
        self._completing: dict[str, SeparatorTokens] = {}  # by separator
        self._names = TokenNames(loaded.texts)
        self.engine = Engine(loaded.model, self._start, largest_batch, loaded.cache_bytes, loaded.turn)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step, of at most the tokens that the context leaves.

        Raises ``ContextTooLongError`` if the prompt of the first step fills the context. A later step is then empty and
        ends by its limit.
        """
        return await self._written(request, request)

    @property
    def writes_blocks(self) -> bool:
        """True: the engine keeps what it has read and written."""
        return True

    async def generate_block(self, request: GenerationRequest, steps: int) -> tuple[Generation, ...]:
        """Write a block of steps. Raises as ``generate``."""
        return await written_in_turn(self.generate, request, steps)

    async def stream(self, request: GenerationRequest, say: Say) -> Generation:
        """Write one step as ``generate``, and call ``say`` with its text as it grows."""
        soon = running_soon()

        def say_soon(text: str) -> None:
            with suppress(RuntimeError):  # the event loop has ended, and so has the request
                soon(partial(say, text))

        return await self._written(request, _StreamedRequest(request, say_soon))

    async def _written(self, request: GenerationRequest, ask: "GenerationRequest | _StreamedRequest") -> Generation:
        try:
            return await self.engine.worker.submit(ask)
        except ContextTooLongError:
            if not request.transcript.steps:
                raise
            return full_context(request)

    async def read(self, prompt: Sequence[int], candidate: Sequence[int]) -> CandidateReading:
        """Read a candidate. Raises ``ContextTooLongError`` if it and its prompt exceed the model's context."""
        if len(prompt) + len(candidate) > self._loaded.model.context:
            raise too_long(self._loaded, len(prompt) + len(candidate))
        return await self.engine.worker.submit(ReadRequest(prompt, candidate, self.gives_hidden_states))

    @property
    def context(self) -> int:
        """The size of the model's context in tokens."""
        return self._loaded.model.context

    def prompt_tokens(self, transcript: Transcript, separator: str) -> int:
        """Return the number of tokens in the prompt."""
        return len(prompt_tokens(self._loaded.texts, self._template.render(transcript, separator)))

    @property
    def kv_memory(self) -> KVMemory:
        """The memory of keys and values."""
        return self.engine.kv_memory

    @property
    def texts(self) -> TokenTexts:
        """The model's tokenizer."""
        return self._loaded.texts

    @property
    def gives_hidden_states(self) -> bool:
        """Whether ``read`` returns hidden states: the models of transformers return other numbers in their place."""
        return isinstance(self._loaded.model, LlamaModel)

    def _start(self, ask: "GenerationRequest | _StreamedRequest | ReadRequest") -> "_StepRow | ReadRow":
        if isinstance(ask, ReadRequest):
            return ReadRow(ask)
        if isinstance(ask, _StreamedRequest):
            row = self._step_row(ask.request)
            row.say = ask.say
            return row
        return self._step_row(ask)

    def _step_row(self, ask: GenerationRequest) -> "_StepRow":
        prompt = self._prompt(ask)
        room = min(self._loaded.model.context - len(prompt), ask.max_tokens)
        if room < 1:
            raise ContextTooLongError(
                f"the prompt has {len(prompt)} tokens, and the context of {self._loaded.name} holds "
                f"{self._loaded.model.context}: shorten the question, or use a model with a longer context"
            )
        mask = None if ask.constraint is None else self._constraints.mask(ask.constraint)
        records = None if ask.top_logprobs is None else TokenRecords(self._names, ask.top_logprobs)
        if mask is None:
            proposed, step = self._proposed(ask, room), self._step(ask.separator, room)
            return _StepRow(ask, prompt, proposed, step, records, self._penalties(ask, prompt))
        step = StepTokens(self._loaded.texts, ask.separator, self._loaded.ends, room, completing=())
        return _StepRow(ask, prompt, [], step, records, self._penalties(ask, prompt), mask)

    def _prompt(self, ask: GenerationRequest) -> list[int]:
        if ask.token_exact:
            return context_tokens(self._loaded.texts, self._template, ask.transcript, ask.separator, ask.wrote)
        return prompt_tokens(self._loaded.texts, self._template.render(ask.transcript, ask.separator))

    def _penalties(self, ask: GenerationRequest, prompt: Sequence[int]) -> TokenPenalties | None:
        if not ask.penalizes:
            return None
        texts = self._loaded.texts
        written: Sequence[int] = texts.encode(ask.written, special=False)
        if ask.token_exact:
            written = prompt[len(prompt_tokens(texts, self._template.head(ask.transcript, ask.separator))) :]
        return TokenPenalties(ask.presence_penalty, ask.frequency_penalty, written)

    @property
    def without_constraints(self) -> str | None:
        """Why no constraint can be kept, and what to install; None if one can."""
        try:
            self._constraints  # noqa: B018 - imports what it needs
        except BackendError as error:
            return str(error)
        return None

    @cached_property
    def _constraints(self) -> "Constraints":
        """Raises ``BackendError`` without the extra ``structured``."""
        try:
            from arbiter.backends.in_process.constrained import Constraints
        except ModuleNotFoundError as error:
            raise BackendError(not_installed("constrained decoding in process", error.name, "structured")) from error
        return Constraints(self._loaded.name, self._loaded.texts, self._loaded.ends)

    def _step(self, separator: str, room: int) -> StepTokens:
        texts = self._loaded.texts
        completing = self._completing.get(separator)
        if completing is None:
            completing = self._completing[separator] = SeparatorTokens(texts, separator)
        return StepTokens(texts, separator, self._loaded.ends, room, completing)

    def _proposed(self, ask: GenerationRequest, room: int) -> list[int]:
        has_records = ask.confidence is not None or ask.top_logprobs is not None
        if ask.proposal is None or has_records or ask.penalizes or self._loaded.model.slots is None:
            return []
        texts, proposal = self._loaded.texts, ask.proposal
        if ask.token_exact:
            return step_tokens(texts, proposal, ask.separator, room)
        return proposed_tokens(texts, proposal.text, proposal.stop_reason, ask.separator, room)


class _StreamedRequest(NamedTuple):
    """A request whose text is passed on to ``say``, which may be called in any thread."""

    request: GenerationRequest
    say: Say


class _StepRow:
    """A step while it is written. ``proposed`` has the tokens of a step to check; it may be empty.

    ``records`` takes the tokens, if they are requested. ``mask`` is the constraint, if there is one. ``say`` takes the
    text so far, after each pass.
    """

    say: Say | None = None

    def __init__(
        self,
        ask: GenerationRequest,
        prompt: list[int],
        proposed: list[int],
        step: StepTokens,
        records: TokenRecords | None,
        penalties: TokenPenalties | None,
        mask: "TokenMask | None" = None,
    ) -> None:
        self.ids = [*prompt, *proposed]
        self.read = self.reused = 0
        self.shown = 1 + len(proposed)
        self.longest = len(prompt) + step.room
        self._ask = ask
        self._prompt = len(prompt)
        self._proposed = proposed
        self._step = step
        self._records = records
        self._penalties = penalties
        self._mask = mask
        self._noise = random.Random(ask.seed)
        self._logprobs: list[float] = []
        self._entropy: float | None = None

    def advance(self, outputs: Outputs, first: int) -> bool:
        last = first + self.shown - 1
        if self._step.tokens or not self._proposed:
            tokens = [self._next(outputs, last)]
        else:
            tokens = agreed_tokens(self._proposed, outputs.choices[first : last + 1])
            self.read = self._prompt + len(tokens) - 1
            del self.ids[self.read :]
            self.shown = 1
        self._record(outputs, last, tokens[0])
        if self._step.take(tokens):
            return True
        if self._mask is not None and self._mask.take(tokens[0]):
            self._step.close("end")
            return True
        if self.say is not None:
            self.say(self._step.settled_text)
        self.ids.append(tokens[-1])
        return False

    def answer(self) -> Generation:
        step, found = self._step, agreement(self._proposed, self._step) if self._proposed else None
        assert step.ending is not None  # noqa: S101 - only called for finished rows
        overhead = Usage(prompt_tokens=found.proposed - found.matched) if found else Usage()
        usage = Usage(self._prompt, len(step.tokens), self.reused)
        tokens = self._records and self._records.tokens(step.tokens, self._whole)
        is_exact = self._ask.token_exact
        return Generation(
            step.text,
            step.ending,
            usage,
            overhead,
            found,
            confidence=self._confidence(),
            tokens=tokens,
            token_ids=tuple(step.tokens) if is_exact else (),
            overrun=step.overrun if is_exact else "",
        )

    @property
    def _whole(self) -> str:
        """The text of the step, with the separator that ends it, and what the last token adds if that is kept."""
        step, ask = self._step, self._ask
        ended = ask.separator + (step.overrun if ask.token_exact else "")
        return step.text + ended if step.ending == "separator" else step.text

    def _next(self, outputs: Outputs, last: int) -> int:
        ask = self._ask
        if self._mask is None and self._penalties is None and ask.temperature == 0:
            return outputs.choices[last]
        logits: Tensor = outputs.values[last]
        if self._penalties is not None:
            logits = self._penalties.applied(logits)
        if self._mask is not None:
            logits = self._mask.allowed(logits)
        return draw(logits, ask.temperature, ask.top_p, self._noise) if ask.temperature else int(logits.argmax())

    def _record(self, outputs: Outputs, last: int, token: int) -> None:
        """Record ``token``, and what the confidence needs of the distribution that it was taken from."""
        if self._penalties is not None:
            self._penalties.take(token)
        if self._records is not None:
            self._records.add(outputs.logprobs[last], token)
        if self._ask.confidence == "mean":
            self._logprobs.append(float(outputs.logprobs[last, token]))
        elif self._ask.confidence == "first" and self._entropy is None:
            self._entropy = outputs.entropies[last]

    def _confidence(self) -> float | None:
        if self._entropy is not None:
            return confidence_at(self._entropy)
        return mean_confidence(self._logprobs) if self._logprobs else None
