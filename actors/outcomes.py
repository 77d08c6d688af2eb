"""Checks the answers of models, and makes the outcomes of their requests of them. Pure functions."""

import msgspec

from arbiter.protocols.answer_tokens import WrittenToken, fault_of
from arbiter.protocols.errors import BackendError
from arbiter.protocols.events import CallGenerated, CallScored, FollowingScore, FollowingStep
from arbiter.protocols.ports import Generation, GenerationRequest, Score, ScoreRequest
from arbiter.protocols.records import Gathered, Usage
from arbiter.protocols.tools import step_text

_NO_USAGE = Usage()


def generated(
    answer: Generation, request: GenerationRequest, seconds: float, gathered: Gathered | None
) -> CallGenerated:
    """Return the outcome of an answer that took ``seconds``.

    Raises ``BackendError`` for a confidence outside (0, 1], or for requested tokens that are missing or wrong. Raises
    ``UnicodeEncodeError`` for a text that the log cannot encode.
    """
    confidence, reported = answer.confidence, answer.seconds
    if not answer.text.isascii():
        answer.text.encode()
    if confidence is not None and not 0.0 < confidence <= 1.0:  # NaN fails, too
        raise BackendError(f"the {request.author} model returned a confidence of {confidence}, not in (0, 1]")
    return CallGenerated(
        step_text(answer.text, answer.calls) if answer.calls else answer.text,
        answer.stop_reason,
        answer.usage,
        seconds if reported is None else reported,
        None if answer.overhead == _NO_USAGE else answer.overhead,
        answer.prefix_match,
        stored=reported is not None and not answer.fresh,
        confidence=confidence,
        gathered=gathered,
        calls=answer.calls,
        valid=answer.valid,
        violation=answer.violation,
        tries=answer.tries,
        tokens=_tokens(answer, request),
        token_ids=answer.token_ids,
        overrun=answer.overrun,
    )


def generated_block(
    answers: tuple[Generation, ...], request: GenerationRequest, seconds: float, gathered: Gathered | None
) -> CallGenerated:
    """Return the outcome of a block of steps. Raises ``BackendError`` as ``generated``, and if there is none."""
    if not answers:
        raise BackendError(f"the {request.author} model wrote no step of a block")
    first, *others = (generated(answer, request, seconds, gathered) for answer in answers)
    following = tuple(
        FollowingStep(
            one.text,
            one.stop_reason,
            one.cost,
            one.confidence,
            one.token_ids,
            one.overrun,
            one.calls,
            one.valid,
            one.violation,
            one.tokens,
        )
        for one in others
    )
    return msgspec.structs.replace(first, following=following)


def scored_block(
    answers: tuple[Score, ...], requests: tuple[ScoreRequest, ...], seconds: float, gathered: Gathered | None
) -> CallScored:
    """Return the outcome of a block of scores. Raises ``BackendError`` as ``scored``, and if their number is wrong."""
    if len(answers) != len(requests):
        kind = requests[0].score_kind
        raise BackendError(f"the {kind} model returned {len(answers)} scores for {len(requests)} candidates")
    first, *others = (
        scored(answer, request, seconds, gathered) for answer, request in zip(answers, requests, strict=True)
    )
    return msgspec.structs.replace(
        first,
        usage=sum((one.usage for one in others), first.usage),
        following=tuple(FollowingScore(one.value, one.estimates) for one in others),
    )


def _tokens(answer: Generation, request: GenerationRequest) -> tuple[WrittenToken, ...] | None:
    """Return the tokens of an answer, if they were requested. Raises ``BackendError`` if they are missing or wrong."""
    if request.top_logprobs is None:
        return None
    if answer.tokens is None:
        raise BackendError(f"the {request.author} model returned no log-probabilities, which the request needs")
    ended = request.separator + answer.overrun if answer.stop_reason == "separator" and not answer.calls else ""
    fault = fault_of(answer.tokens, answer.text + ended, is_whole=not answer.calls)
    if fault is not None:
        raise BackendError(f"the {request.author} model returned log-probabilities that cannot be: {fault}")
    return answer.tokens


def scored(answer: Score, request: ScoreRequest, seconds: float, gathered: Gathered | None) -> CallScored:
    """Return the outcome of a score that took ``seconds``. Raises ``BackendError`` for a value outside [0, 1]."""
    for value in (answer.value, *answer.estimates):
        if not 0.0 <= value <= 1.0:  # NaN fails, too
            raise BackendError(f"the {request.score_kind} model scored {value}, but a score must be in [0, 1]")
    reported = answer.seconds
    return CallScored(
        answer.value,
        answer.usage,
        seconds if reported is None else reported,
        reported is not None and not answer.fresh,
        answer.estimates,
    )
