"""Pieces of steps: text that is passed on while a model writes a step, because nothing can reject it any more.

A step is one record all the same. Its pieces are only ever a beginning of its text.
"""

from collections.abc import Callable

from arbiter.protocols.errors import BackendError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, StreamsText
from arbiter.protocols.records import Author, StepPiece

Listen = Callable[[StepPiece], None]
"""Takes each piece of a problem's steps. It must not block."""


def can_stream(task: Task, step: int, author: Author, is_ahead: bool) -> bool:
    """Return whether a step that ``author`` writes for ``task`` is kept, whatever it becomes. ``step`` is its number.

    The draft's steps are kept if no policy decides about them, or if it has decided by a glimpse. A target's are kept
    if the policy does not compare them with others. ``is_ahead`` is True for drafting ahead.

    Steps under rules of the answer may be requested again, and calls are read from whole steps. So are
    log-probabilities. A deadline may end a problem within a step, whose text is then no part of the answer.
    """
    policy, rules = task.policy, task.transcript.rules
    is_checked = (rules is not None and rules.restricts) or task.top_logprobs is not None
    if is_ahead or is_checked or task.limits.deadline is not None:
        return False
    proposers = policy.proposes(step)
    if author == "draft":
        is_decided = not policy.decides or policy.glimpse is not None
        return proposers == ("draft",) and is_decided and policy.score_kind is None
    if "target" not in proposers:
        return True  # it replaces a rejected draft
    is_judged = policy.score_kind is not None and proposers == policy.proposers
    return proposers == ("target",) and not is_judged and len(policy.targets) <= 1


class StreamedGenerator:
    """A ``Generator`` over ``inner`` that gives the pieces of its steps to ``listen``."""

    def __init__(self, inner: StreamsText, listen: Listen) -> None:
        self._inner = inner
        self._listen = listen

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step. Raises as ``inner``, and ``BackendError`` if the step does not begin with its pieces.

        That happens if a stream breaks, and the model writes another text when the request is made again.
        """
        said = ""

        def say(text: str) -> None:
            nonlocal said
            if len(text) > len(said) and text.startswith(said):
                piece, said = text[len(said) :], text
                self._listen(StepPiece(request.step, request.author, piece))

        answer = await self._inner.stream(request, say)
        if not answer.text.startswith(said):
            raise BackendError(
                f"the {request.author} model wrote another text when its request was made again, after the first "
                f"{len(said)} characters of the step were passed on. Its server may not repeat its answers: stream "
                "whole steps, or set retries = 0"
            )
        return answer
