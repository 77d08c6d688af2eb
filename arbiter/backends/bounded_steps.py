"""Steps that end at some separators only, as a boundary says.

A model stops at each separator. Where the step goes on, the model gets a further request for the same step, whose
prompt is the context with the text so far and the separator. All of them are one call in the log.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import msgspec

from arbiter.actors.ring_setup import Models
from arbiter.actors.seeds import part_seed
from arbiter.backends.confidence import joined_confidence
from arbiter.backends.step_boundaries import SeparatorPlace, StepBoundary
from arbiter.backends.wrapped_generator import WrappedGenerator, written_by
from arbiter.protocols.answer_tokens import WrittenToken
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Proposal, Say
from arbiter.protocols.records import PrefixMatch, Step, StopReason, Usage


@runtime_checkable
class ReadsAnswers(Protocol):
    """A ``Generator`` that reads whole steps of another one. What changes the steps must be between the two."""

    def over(self, wrap: Callable[[Generator], Generator]) -> Generator:
        """Return the same reader of the steps of ``wrap`` of the other one."""
        ...


class BoundedSteps(WrappedGenerator):
    """A ``Generator`` over ``inner``. Its steps end at a separator only where ``boundary`` says so.

    A step that reaches its token limit is cut there. A boundary that looks ahead has the model write the text after
    each separator before it decides. If the step ends there, that text is dropped, and its tokens are overhead.
    """

    def __init__(self, inner: Generator, boundary: StepBoundary) -> None:
        super().__init__(inner)
        self._boundary = boundary

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step, with as many requests as its parts need. Raises as ``inner``."""
        return await self._write(request, None)

    async def stream(self, request: GenerationRequest, say: Say) -> Generation:
        """Write one step as ``generate``, and pass its text on to ``say``. Raises as ``inner``."""
        return await self._write(request, say)

    async def _write(self, request: GenerationRequest, say: Say | None) -> Generation:
        step = _Parts(request)
        part = await written_by(self.inner, step.next_request(), say and step.said_by(say))
        while True:
            step.add(part)
            if part.stop_reason != "separator":
                return step.joined(part.stop_reason)
            ahead: Generation | None = None
            if self._boundary.looks_ahead and step.left > 0:
                ahead = await self.inner.generate(step.next_request())
            if self._boundary.ends(step.place(ahead)):
                return step.joined("separator", ahead)
            if step.left < 1:
                return step.joined("limit")
            if ahead is None:
                ahead = await written_by(self.inner, step.next_request(), say and step.said_by(say))
            elif say is not None:
                step.said_by(say)(ahead.text)
            part = ahead


class _Parts:
    """The parts of a step so far. ``text`` joins them, and ``left`` is the number of tokens that the step may have."""

    def __init__(self, request: GenerationRequest) -> None:
        self.text = ""
        self.left = request.max_tokens
        self._request = request
        self._parts: list[Generation] = []
        self._proposal = request.proposal
        self._shown: Proposal | None = None

    def next_request(self) -> GenerationRequest:
        """Return the request for the next part. It shows the part of the proposal that belongs there."""
        request = self._request
        self._shown, self._proposal = _first_part(self._proposal, request.separator)
        if not self._parts:
            return msgspec.structs.replace(request, proposal=self._shown)
        return msgspec.structs.replace(
            request,
            # one step, so that a prompt with authors names the author once
            transcript=request.transcript.extended(
                Step(self.text, request.author, request.target, self._token_ids(), self._parts[-1].overrun)
            ),
            max_tokens=self.left,
            seed=part_seed(request.seed, len(self._parts)),
            proposal=self._shown,
        )

    def said_by(self, say: Say) -> Say:
        """Return what passes on the text of the next part, with the parts before it."""
        before = self._ended() if self._parts else ""
        return lambda text: say(before + text)

    def place(self, ahead: Generation | None) -> SeparatorPlace:
        """Return the separator that the step has reached, with the text ``ahead`` of it if that is known."""
        written = sum(one.usage.completion_tokens for one in self._parts)
        answer = f"{self._request.written}{self.text}{self._request.separator}"
        return SeparatorPlace(answer, self.text, written, None if ahead is None else ahead.text)

    def add(self, part: Generation) -> None:
        """Append a part. What is left of the proposal counts only if the part is exactly what was proposed."""
        self.text = self._ended() + part.text if self._parts else part.text
        self._parts.append(part)
        self.left -= max(part.usage.completion_tokens, 1)  # a server without counts must not be asked for ever
        if self._shown != Proposal(part.text, part.stop_reason):
            self._proposal = None

    def joined(self, ending: StopReason, dropped: Generation | None = None) -> Generation:
        """Return the whole step, which ended for the reason ``ending``. ``dropped`` is text that is no part of it."""
        first, *more = self._parts
        last = self._parts[-1]
        spent = Usage() if dropped is None else dropped.usage + dropped.overhead
        if not more and ending == first.stop_reason:
            return first if dropped is None else msgspec.structs.replace(first, overhead=first.overhead + spent)
        reread = (Usage(part.usage.prompt_tokens, 0, part.usage.cached_tokens) for part in more)
        matches = [part.prefix_match for part in self._parts if part.prefix_match is not None]
        seconds = [part.seconds for part in self._parts if part.seconds is not None]
        written = sum(part.usage.completion_tokens for part in self._parts)
        return Generation(
            # a step that is cut after a separator keeps it: the model has written it
            self._ended() if ending != last.stop_reason else self.text,
            ending,
            msgspec.structs.replace(first.usage, completion_tokens=written),
            sum((part.overhead for part in self._parts), sum(reread, spent)),
            PrefixMatch(sum(one.proposed for one in matches), sum(one.matched for one in matches)) if matches else None,
            sum(seconds) if len(seconds) == len(self._parts) else None,
            all(part.fresh for part in self._parts),
            self._confidence(),
            last.calls,
            last.valid,
            last.violation,
            tokens=self._tokens(),
            token_ids=self._token_ids(),
            overrun=last.overrun if ending == "separator" else "",
        )

    def _ended(self) -> str:
        """Return the text so far with what follows it: the separator, and what its last token adds."""
        return f"{self.text}{self._request.separator}{self._parts[-1].overrun}"

    def _token_ids(self) -> tuple[int, ...]:
        """Return the numbers of the tokens of all parts; none if those of a part are not known."""
        known = [part.token_ids for part in self._parts if part.token_ids]
        return tuple(token for ids in known for token in ids) if len(known) == len(self._parts) else ()

    def _tokens(self) -> tuple[WrittenToken, ...] | None:
        """Return the tokens of all parts, with those of the separators between them; None if a part has none."""
        known = [part.tokens for part in self._parts if part.tokens is not None]
        return tuple(token for tokens in known for token in tokens) if len(known) == len(self._parts) else None

    def _confidence(self) -> float | None:
        """Return the confidence in the whole step: over all of its tokens, or at its first one."""
        first = self._parts[0].confidence
        known = [(part.usage.completion_tokens, part.confidence) for part in self._parts if part.confidence is not None]
        if self._request.confidence != "mean" or first is None:
            return first
        return joined_confidence(known)


def with_boundary(models: Models, boundary: StepBoundary) -> Models:
    """Return ``models`` whose draft and targets end their steps as ``boundary`` says. One handle stays one handle."""
    wrapped: dict[int, ModelHandle[Generator]] = {}

    def bounded(generator: Generator) -> Generator:
        return BoundedSteps(generator, boundary)

    def wrap(handle: ModelHandle[Generator]) -> ModelHandle[Generator]:
        if id(handle) not in wrapped:
            port = handle.port
            whole = port.over(bounded) if isinstance(port, ReadsAnswers) else bounded(port)
            wrapped[id(handle)] = msgspec.structs.replace(handle, port=whole)
        return wrapped[id(handle)]

    return msgspec.structs.replace(
        models,
        draft=models.draft and wrap(models.draft),
        target=models.target and wrap(models.target),
        targets={name: wrap(handle) for name, handle in models.targets.items()},
    )


def _first_part(proposal: Proposal | None, separator: str) -> tuple[Proposal | None, Proposal | None]:
    """Return the part of a proposal before its first separator, and the rest; None where there is none."""
    if proposal is None or separator not in proposal.text:
        return proposal, None
    text, _, rest = proposal.text.partition(separator)
    return Proposal(text, "separator"), Proposal(rest, proposal.stop_reason)
