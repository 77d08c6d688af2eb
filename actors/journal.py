"""The journal entries of messages, and a journal that records nothing."""

from collections.abc import Callable

from arbiter.protocols.events import CallFailed, CallGenerated, CallScored, Entry
from arbiter.protocols.messages import (
    AssemblerMail,
    Context,
    DrafterMail,
    EscalatorMail,
    RouterMail,
    VerifierMail,
)

AnyMail = AssemblerMail | DrafterMail | VerifierMail | RouterMail | EscalatorMail


class NoJournal:
    """The ``Journal`` of a ring without a log."""

    kept = False
    threshold: float | None = None

    async def write(self, entry: Entry) -> None:
        """Record nothing."""

    def note(self, entry: Entry) -> None:
        """Record nothing."""

    def recall(self, call: str) -> CallGenerated | CallScored | CallFailed | None:
        """Return None: there is no earlier session."""

    def decided(self, place: str) -> float | None:
        """Return None: there is no earlier session."""

    def spent(self, start: str) -> float:
        return 0.0


def message_entry(message: AnyMail, actor: str, to: str, digest: Callable[[Context], str]) -> Entry:
    """Return the entry for a message from ``actor`` to the actor ``to``; ``digest`` computes ``Context.digest``."""
    context, task = message.context, message.context.task
    event = message.event_with(digest)
    return Entry(message.id, actor, event, message.cause, task.id, task.sample, context.step, to, derived=True)
