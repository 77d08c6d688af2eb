"""What your own backends, policies and actors are made of, besides what ``arbiter`` itself has.

``examples/`` has one of each. A backend is a class with ``generate`` or ``score`` (``Generator``, ``Scorer``). A policy
is a subclass of ``PolicyBase`` with ``decide``. An actor is a subclass of ``ConcurrentActor`` or ``SequentialActor``,
which an ``ActorFactories`` puts in the place of a built-in one.
"""

from arbiter.actors.actor import Actor, ActorContext, ConcurrentActor, SequentialActor
from arbiter.actors.factories import ActorFactories
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.policies import PolicyBase
from arbiter.actors.requests import Call, note_retry
from arbiter.protocols.messages import (
    AuditStep,
    Context,
    DrafterMail,
    DraftStep,
    EscalateStep,
    EscalatorMail,
    RouterMail,
    StepAudited,
    StepChosen,
    StepDrafted,
    StepRegenerated,
    StepScored,
    VerifierMail,
)
from arbiter.protocols.ports import (
    Evidence,
    Generation,
    GenerationRequest,
    Generator,
    Policy,
    Score,
    Scorer,
    ScoreRequest,
    Seat,
)
from arbiter.protocols.records import Audit, Candidate, Ending, Measure, Rating, Role, Scale, Verdict

__all__ = [
    "Actor",
    "ActorContext",
    "ActorFactories",
    "Audit",
    "AuditStep",
    "Call",
    "Candidate",
    "ConcurrentActor",
    "Context",
    "DraftStep",
    "DrafterMail",
    "Ending",
    "EscalateStep",
    "EscalatorMail",
    "Evidence",
    "Generation",
    "GenerationRequest",
    "Generator",
    "Inbox",
    "Measure",
    "Policy",
    "PolicyBase",
    "Rating",
    "Role",
    "RouterMail",
    "Scale",
    "Score",
    "ScoreRequest",
    "Scorer",
    "Seat",
    "SequentialActor",
    "StepAudited",
    "StepChosen",
    "StepDrafted",
    "StepRegenerated",
    "StepScored",
    "Verdict",
    "VerifierMail",
    "note_retry",
]
