"""Actors of one's own, in the places of the ring's."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream

from actors.actor import Actor
from actors.calls import Calls
from actors.docket import Docket
from actors.mailboxes import Posts
from protocols.messages import DrafterMail, EscalatorMail, RouterMail, VerifierMail
from protocols.ports import Journal
from protocols.records import Model

Mail = TypeVar("Mail", DrafterMail, EscalatorMail, RouterMail, VerifierMail)


class Stage(msgspec.Struct, frozen=True):
    """What an actor works with: the addresses of the others, the open problems, the one way to make requests to
    models, and the journal.
    """

    posts: Posts
    docket: Docket
    calls: Calls
    journal: Journal


Inbox = MemoryObjectReceiveStream
"""The mailbox of an actor, by the union of its messages: ``Inbox[VerifierMail]``."""

Made = Callable[[Inbox[Mail], Stage], Actor[Mail]]
"""What makes an actor of its mailbox and the stage: a class whose constructor takes these two."""


class Cast(msgspec.Struct, frozen=True):
    """Who plays which part: a callable that makes the actor of its mailbox and the stage; None has the ring's own.

    An actor is a subclass of ``Working`` (it waits for something) or ``Deciding`` (it waits for nothing), and sends
    what its part has to send (``protocols/messages.py`` shows the way of a step). The Assembler is the ring's own. The
    configured models whose work an actor of one's own does are not opened.
    """

    drafter: Made[DrafterMail] | None = None
    verifier: Made[VerifierMail] | None = None
    router: Made[RouterMail] | None = None
    escalator: Made[EscalatorMail] | None = None

    @property
    def brings(self) -> frozenset[Model]:
        """The models that need not be configured, since an actor of one's own does their work."""
        there: dict[Model, object] = {
            "draft": self.drafter,
            "target": self.escalator,
            **dict.fromkeys(("prm", "router", "judge"), self.verifier),
        }
        return frozenset(model for model, actor in there.items() if actor is not None)
