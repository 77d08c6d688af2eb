"""The names of called tools, for exports without texts."""

from arbiter.log.redaction import redacted
from arbiter.protocols.events import CallGenerated, Outcome


def called_names(outcome: Outcome | None) -> list[str]:
    """Return the names of the tools that the steps of a request call.

    A call that breaks the rules has a digest in place of its name: a model can write any text there.
    """
    if not isinstance(outcome, CallGenerated):
        return []
    steps = (outcome, *outcome.following)
    return [call.name if step.valid else redacted(call.name) for step in steps for call in step.calls]
