"""The step of a model whose context is full: it is empty, and ended by the limit."""

from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage


def full_context(request: GenerationRequest) -> Generation:
    """Return the empty step that ends a problem by a limit, so that its text so far is graded.

    Nothing of it is uncertain: a requested confidence is 1.
    """
    confidence, tokens = 1.0 if request.confidence else None, None if request.top_logprobs is None else ()
    return Generation("", "limit", Usage(), confidence=confidence, tokens=tokens)
