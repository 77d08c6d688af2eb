"""What your own backends, policies and actors are made of, besides what ``arbiter`` itself has.

``examples/`` has one of each. A backend is a class with ``generate`` or ``score`` (``Generator``, ``Scorer``). A policy
is a subclass of ``PolicyBase`` with ``decide``. An actor is a subclass of ``ConcurrentActor`` or ``SequentialActor``,
which an ``ActorFactories`` puts in the place of a built-in one.
"""

from actors.actor import Actor, ActorContext, ConcurrentActor, SequentialActor
from actors.calls import Call, note_retry
from actors.factories import ActorFactories
from actors.mailboxes import Inbox
from actors.policies import PolicyBase
from protocols.messages import (
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
from protocols.ports import (
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
from protocols.records import Audit, Candidate, Ending, Measure, Rating, Role, Scale, Verdict

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
