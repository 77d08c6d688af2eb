"""Steps that are checked: a step that breaks the rules of the answer is found, and written again where it must be."""

import msgspec

from arbiter.actors.answer_rules import call_schema, violation_of_answer, violation_of_calls
from arbiter.actors.requests import note_retry
from arbiter.actors.seeds import call_name, retry_seed
from arbiter.protocols.errors import BackendError
from arbiter.protocols.model_traits import thought_opening
from arbiter.protocols.ports import Generation, GenerationRequest, Generator
from arbiter.protocols.records import Usage, text_before_stop
from arbiter.protocols.tools import AnswerRules, step_text
from arbiter.structured.thoughts import divided_answer

TRIES = 3
"""How often a step that must keep the rules of the answer is requested from its model."""

_RETRY_TEMPERATURE = 0.7  # of further tries, at least: at temperature 0 each would have the same answer


class CheckedGenerator:
    """Writes steps with ``inner``, and says of each whether it keeps the ``rules`` of the answer.

    A step that breaks them is written again if ``is_final``, that is, if no other model can replace it: ``TRIES``
    times in all, with other seeds, at a temperature above 0, and with the rules as a constraint. One that its limit cut
    within a call, or within an answer that must fit a schema, is kept: it ends the problem as any step that is cut.

    If the answer must fit a schema, and can be nothing else, the schema is the constraint of the whole answer from its
    first try. Only a thought before it is free: one that the model may begin with, or that its prompt opens.
    ``stop`` are the texts that end the answer. What is before them must keep the rules.

    With ``separates``, each of several calls in an answer is a step with a verdict of its own.
    """

    def __init__(
        self,
        inner: Generator,
        rules: AnswerRules,
        is_final: bool,
        stop: tuple[str, ...] = (),
        separates: bool = False,
    ) -> None:
        self._inner = inner
        self._rules = rules
        self._tries = TRIES if is_final else 1
        self._stop = stop
        self._separates = separates and rules.parallel
        self._thinks = thought_opening(inner, rules.effort) == "answer"

    async def write(self, request: GenerationRequest) -> tuple[Generation, ...]:
        """Write one step, and those that follow it in the same answer: one for each further call.

        Raises as ``inner``, and ``BackendError`` if the step is final and no try keeps the rules.
        """
        if not (self._rules.offered or (self._thinks and not request.written.strip())):
            request = _under(request, self._whole(request))
        answer, *others = await self._write(request)
        for attempt in range(1, self._tries):
            if answer.valid is not False or self._is_cut(request, answer):
                break
            note_retry(attempt, 0.0, f"broken rules: {answer.violation}")
            again, *others = await self._write(self._again(request, answer, attempt))
            spent = again.overhead + answer.usage + answer.overhead
            seconds = None if again.seconds is None or answer.seconds is None else again.seconds + answer.seconds
            answer = msgspec.structs.replace(again, overhead=spent, seconds=seconds, tries=attempt + 1)
        if answer.valid is False and self._tries > 1 and not self._is_cut(request, answer):
            raise BackendError(
                f"the {request.author} model broke the rules of the answer in each of {TRIES} tries: {answer.violation}"
            )
        return answer, *others

    async def _write(self, request: GenerationRequest) -> tuple[Generation, ...]:
        """Return the steps of an answer, each with its verdict. Each of their calls has an id."""
        answer, place = await self._inner.generate(request), (request.problem, request.step, request.seed)
        calls = tuple(
            call if call.id else msgspec.structs.replace(call, id=call_name(*place, index))
            for index, call in enumerate(answer.calls)
        )
        answer = msgspec.structs.replace(answer, calls=calls)
        if answer.valid is not None:  # its calls cannot be read, or a log has its verdict
            return (answer,)
        steps = separated(answer) if self._separates else (answer,)
        return tuple(self._checked(request, step) for step in steps)

    def _checked(self, request: GenerationRequest, step: Generation) -> Generation:
        valid, violation = self._verdict(request, step)
        return msgspec.structs.replace(step, valid=valid, violation=violation)

    def _verdict(self, request: GenerationRequest, answer: Generation) -> tuple[bool | None, str | None]:
        """Return whether a step keeps the rules, and why not; None and None if no rule is about it."""
        if not answer.calls and _called(request):
            return None, None  # the answer ends with the calls before it
        before_stop, schema = self._before_stop(request, answer), self._rules.schema
        is_cut = answer.stop_reason == "limit" and before_stop is None
        ends = answer.stop_reason == "end" or before_stop is not None
        violation = violation_of_calls(self._rules, answer.calls, ends)
        if answer.calls or violation is not None:
            return violation is None, violation
        if schema is None or not (ends or is_cut):
            return None, None
        text = request.written + answer.text if before_stop is None else before_stop
        violation = violation_of_answer(schema, text, request.in_thought)
        if violation is not None and is_cut:
            violation = f"its token limit cut it: {violation}"
        return violation is None, violation

    def _again(self, request: GenerationRequest, answer: Generation, attempt: int) -> GenerationRequest:
        """Return the request for another try after ``answer``."""
        is_call = self._rules.schema is None or bool(answer.calls) or self._rules.choice == "required"
        again = msgspec.structs.replace(
            request,
            temperature=max(request.temperature, _RETRY_TEMPERATURE),
            seed=retry_seed(request.seed, attempt),
            proposal=None,
            constraint=None,
        )
        return _under(again, call_schema(self._rules) if is_call else self._whole(request))

    def _whole(self, request: GenerationRequest) -> str | None:
        """Return the schema of the answer if the step is all of it, and no part of a thought; else None."""
        content = divided_answer(request.written, request.in_thought).content
        return None if content is None or content.strip() else self._rules.schema

    def _before_stop(self, request: GenerationRequest, answer: Generation) -> str | None:
        """Return the text of the answer before the stop text that ends it; None if none does."""
        after = request.separator if answer.stop_reason == "separator" else ""
        return text_before_stop(request.written + answer.text + after, self._stop) if self._stop else None

    def _is_cut(self, request: GenerationRequest, answer: Generation) -> bool:
        """Return whether the token limit cut a step, which then calls nothing, and may be the beginning of JSON."""
        return answer.stop_reason == "limit" and not answer.calls and self._before_stop(request, answer) is None


def separated(answer: Generation) -> tuple[Generation, ...]:
    """Return the calls of an answer as steps: the first with the text before it, each other one alone.

    Servers count the tokens of the whole answer. They are divided by the length of the steps.
    """
    if len(answer.calls) < 2:
        return (answer,)
    texts = [step_text("" if index else answer.text, (call,)) for index, call in enumerate(answer.calls)]
    tokens, last = _divided(answer.usage.completion_tokens, [len(text) for text in texts]), len(texts) - 1
    return tuple(
        msgspec.structs.replace(
            answer,
            text="" if index else answer.text,
            calls=(call,),
            stop_reason=answer.stop_reason if index == last else "call",
            usage=Usage(completion_tokens=tokens[index])
            if index
            else msgspec.structs.replace(answer.usage, completion_tokens=tokens[0]),
            overhead=Usage() if index else answer.overhead,
            tokens=() if index and answer.tokens is not None else answer.tokens,
            token_ids=(),
            overrun="",
        )
        for index, call in enumerate(answer.calls)
    )


def without_others(steps: tuple[Generation, ...]) -> tuple[Generation, ...]:
    """Return the first of the steps of an answer, with the tokens of the others among its overhead."""
    first, *others = steps
    spent = sum((one.usage for one in others), first.overhead)
    return (msgspec.structs.replace(first, overhead=spent),)


def _divided(tokens: int, lengths: list[int]) -> list[int]:
    """Return ``tokens`` as one number for each length, in proportion, with the same sum."""
    ends = [tokens * sum(lengths[: index + 1]) // sum(lengths) for index in range(len(lengths))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _called(request: GenerationRequest) -> bool:
    """Return whether the answer has called tools before the step of ``request``."""
    steps = request.transcript.steps
    return bool(steps and steps[-1].calls)


def _under(request: GenerationRequest, constraint: str | None) -> GenerationRequest:
    """Return the request under ``constraint``, if there is one. What is proposed was not written under it."""
    return request if constraint is None else msgspec.structs.replace(request, constraint=constraint, proposal=None)
