"""What backends, policies and actors of one's own are made of, beside what ``arbiter`` itself has.

``examples/`` has one of each: a backend is a class with ``generate`` or ``score`` (``Generator``, ``Scorer``), a policy
a subclass of ``PolicyBase`` with ``decide``, an actor a subclass of ``Working`` or ``Deciding`` in a ``Cast``.
"""

from actors.actor import Actor, Deciding, Working
from actors.calls import Call, note_retry
from actors.factories import Cast, Inbox, Stage
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
    "Audit",
    "AuditStep",
    "Call",
    "Candidate",
    "Cast",
    "Context",
    "Deciding",
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
    "Stage",
    "StepAudited",
    "StepChosen",
    "StepDrafted",
    "StepRegenerated",
    "StepScored",
    "Verdict",
    "VerifierMail",
    "Working",
    "note_retry",
]
