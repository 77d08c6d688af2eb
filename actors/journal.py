"""What the actors tell the journal: their messages, by reference."""

from arbiter.protocols.events import Entry
from arbiter.protocols.messages import AssemblerMail, DrafterMail, EscalatorMail, RouterMail, VerifierMail

AnyMail = AssemblerMail | DrafterMail | VerifierMail | RouterMail | EscalatorMail


class NoJournal:
    """The ``Journal`` of a ring that keeps none."""

    kept = False
    threshold: float | None = None

    async def write(self, entry: Entry) -> None:
        """Forget it."""

    def note(self, entry: Entry) -> None:
        """Forget it."""

    def recall(self, call: str) -> None:
        """Nothing."""

    def decided(self, place: str) -> float | None:
        """Nothing."""

    def spent(self, start: str) -> float:
        return 0.0


def message_entry(message: AnyMail, actor: str, to: str) -> Entry:
    """The entry of a message that ``actor`` sends ``to`` another one."""
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
