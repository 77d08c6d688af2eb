"""Replacement actors: what makes them."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from arbiter.actors.actor import Actor, ActorContext
from arbiter.actors.mailboxes import Inbox
from arbiter.protocols.messages import DrafterMail, EscalatorMail, RouterMail, VerifierMail
from arbiter.protocols.records import Model

Mail = TypeVar("Mail", DrafterMail, EscalatorMail, RouterMail, VerifierMail)

ActorFactory = Callable[[Inbox[Mail], ActorContext], Actor[Mail]]
"""Makes an actor from its inbox and the context: the class of an actor, for instance."""


class ActorFactories(msgspec.Struct, frozen=True):
    """Factories for replacement actors. Each receives the inbox and its ``ActorContext``; ``None`` keeps the built-in
    actor.

    An actor is a subclass of ``ConcurrentActor``, if it waits for something, or of ``SequentialActor``, if it waits for
    nothing. It sends what the built-in actor would send (``protocols/messages.py`` shows the way of a step). The
    Assembler cannot be replaced. The configured models whose work a replacement actor does are not opened.
    """

    drafter: ActorFactory[DrafterMail] | None = None
    verifier: ActorFactory[VerifierMail] | None = None
    router: ActorFactory[RouterMail] | None = None
    escalator: ActorFactory[EscalatorMail] | None = None

    @property
    def replaced_models(self) -> frozenset[Model]:
        """The models that need not be configured, since a replacement actor does their work."""
        there: dict[Model, object] = {
            "draft": self.drafter,
            "target": self.escalator,
            **dict.fromkeys(("prm", "router", "judge"), self.verifier),
        }
        return frozenset(model for model, actor in there.items() if actor is not None)
