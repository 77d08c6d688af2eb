"""The journal entries of messages, and a journal that records nothing."""

from arbiter.protocols.events import CallFailed, CallGenerated, CallScored, Entry
from arbiter.protocols.messages import AssemblerMail, DrafterMail, EscalatorMail, RouterMail, VerifierMail

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


def message_entry(message: AnyMail, actor: str, to: str) -> Entry:
    """Return the entry for a message that ``actor`` sends to the actor ``to``."""
    context = message.context
    return Entry(
        id=message.id,
        actor=actor,
        payload=message.event,
        cause=message.cause,
        problem=context.task.id,
        sample=context.task.sample,
        step=context.step,
        to=to,
    )
