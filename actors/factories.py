"""Factories of replacement actors."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from arbiter.actors.actor import Actor, ActorContext
from arbiter.actors.mailboxes import Inbox
from arbiter.protocols.messages import DrafterMail, EscalatorMail, RouterMail, VerifierMail
from arbiter.protocols.records import Model

Mail = TypeVar("Mail", DrafterMail, EscalatorMail, RouterMail, VerifierMail)

ActorFactory = Callable[[Inbox[Mail], ActorContext], Actor[Mail]]
"""Makes an actor from its inbox and its ``ActorContext``. The class of an actor is a factory."""


class ActorFactories(msgspec.Struct, frozen=True):
    """Factories for replacement actors. Each receives the inbox and its ``ActorContext``; ``None`` keeps the built-in
    actor.

    An actor is a subclass of ``ConcurrentActor`` if it waits for something, else of ``SequentialActor``. It must send
    the messages that the built-in actor would send (``protocols/messages.py`` shows the messages of a step). The
    Assembler cannot be replaced. The configured models whose work a replacement actor does are not opened.

    Example::

        Arbiter.from_config("pocket", factories=ActorFactories(verifier=MyVerifier))
    """

    drafter: ActorFactory[DrafterMail] | None = None
    verifier: ActorFactory[VerifierMail] | None = None
    router: ActorFactory[RouterMail] | None = None
    escalator: ActorFactory[EscalatorMail] | None = None

    @property
    def replaced_models(self) -> frozenset[Model]:
        """The models that need not be configured, since a replacement actor does their work."""
        factories: dict[Model, object] = {
            "draft": self.drafter,
            "target": self.escalator,
            **dict.fromkeys(("prm", "router", "judge"), self.verifier),
        }
        return frozenset(model for model, factory in factories.items() if factory is not None)
