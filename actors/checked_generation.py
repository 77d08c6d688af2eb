"""Steps that are checked: a step that breaks the rules of the answer is found, and written again where it must be."""

import msgspec

from arbiter.actors.answer_rules import call_schema, is_after_thought, violation_of_answer, violation_of_calls
from arbiter.actors.requests import note_retry
from arbiter.actors.seeds import call_name, retry_seed
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, Generator
from arbiter.protocols.tools import AnswerRules

TRIES = 3
"""How often a step that must keep the rules of the answer is requested from its model."""

_RETRY_TEMPERATURE = 0.7  # of further tries, at least: at temperature 0 each would have the same answer


class CheckedGenerator:
    """A ``Generator`` over ``inner`` that says of each step whether it keeps the ``rules`` of the answer.

    A step that breaks them is written again if ``is_final``, that is, if no other model can replace it: ``TRIES``
    times in all, with other seeds, at a temperature above 0, and with the rules as a constraint. One that its limit cut
    within a call is kept: it calls nothing, and ends the problem as any step that is cut.

    If the answer must fit a schema, and can be nothing else, that is the constraint of each step after a thought.
    """

    def __init__(self, inner: Generator, rules: AnswerRules, is_final: bool) -> None:
        self._inner = inner
        self._rules = rules
        self._tries = TRIES if is_final else 1

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step. Raises as ``inner``, and ``BackendError`` if it is final and no try keeps the rules."""
        if not self._rules.offered and is_after_thought(request.written):
            request = msgspec.structs.replace(request, constraint=self._rules.schema)
        answer = await self._write(request)
        for attempt in range(1, self._tries):
            if answer.valid is not False or _is_cut(answer):
                break
            note_retry(attempt, 0.0, f"broken rules: {answer.violation}")
            again = await self._write(self._again(request, answer, attempt))
            spent = again.overhead + answer.usage + answer.overhead
            seconds = None if again.seconds is None or answer.seconds is None else again.seconds + answer.seconds
            answer = msgspec.structs.replace(again, overhead=spent, seconds=seconds)
        if answer.valid is False and self._tries > 1 and not _is_cut(answer):
            raise BackendError(
                f"the {request.author} model broke the rules of the answer in each of {TRIES} tries: {answer.violation}"
            )
        return answer

    async def _write(self, request: GenerationRequest) -> Generation:
        """Return a step with its verdict. Each of its calls has an id."""
        answer, place = await self._inner.generate(request), (request.problem, request.step, request.seed)
        calls = tuple(
            call if call.id else msgspec.structs.replace(call, id=call_name(*place, index))
            for index, call in enumerate(answer.calls)
        )
        if answer.valid is not None:
            return msgspec.structs.replace(answer, calls=calls)
        ends = answer.stop_reason == "end"
        violation, schema = violation_of_calls(self._rules, calls, ends), self._rules.schema
        has_verdict = bool(calls) or violation is not None
        if schema is not None and ends and not has_verdict:
            violation, has_verdict = violation_of_answer(schema, request.written + answer.text), True
        valid = violation is None if has_verdict else None
        return msgspec.structs.replace(answer, calls=calls, valid=valid, violation=violation)

    def _again(self, request: GenerationRequest, answer: Generation, attempt: int) -> GenerationRequest:
        """Return the request for another try after ``answer``."""
        is_call = self._rules.schema is None or bool(answer.calls) or self._rules.choice == "required"
        return msgspec.structs.replace(
            request,
            temperature=max(request.temperature, _RETRY_TEMPERATURE),
            seed=retry_seed(request.seed, attempt),
            proposal=None,
            constraint=call_schema(self._rules) if is_call else self._rules.schema,
        )


def _is_cut(answer: Generation) -> bool:
    """Return whether the token limit cut a step within its call, which is then no call."""
    return answer.stop_reason == "limit" and not answer.calls
