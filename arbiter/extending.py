"""What your own backends, policies and actors are made of, besides what ``arbiter`` itself has.

``examples/`` has one of each. A backend is a class with ``generate`` or ``score`` (``Generator``, ``Scorer``). A policy
is a subclass of ``PolicyBase`` with ``decide``. An actor is a subclass of ``ConcurrentActor`` or ``SequentialActor``,
which an ``ActorFactories`` puts in the place of a built-in one.
"""

from arbiter.actors.actor import Actor, ActorContext, ConcurrentActor, SequentialActor
from arbiter.actors.factories import ActorFactories
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.policies import PolicyBase
from arbiter.actors.requests import ModelRequest, note_retry
from arbiter.protocols.messages import (
    AuditStep,
    Context,
    DrafterMail,
    DraftStep,
    EscalateStep,
    EscalatorMail,
    RouterMail,
    StepAccepted,
    StepAudited,
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
    ModelHandle,
    Policy,
    Score,
    Scorer,
    ScoreRequest,
)
from arbiter.protocols.records import (
    AuditScores,
    Author,
    Candidate,
    ConfidenceMetric,
    Rating,
    ScoreKind,
    StopReason,
    Verdict,
)

__all__ = [
    "Actor",
    "ActorContext",
    "ActorFactories",
    "AuditScores",
    "AuditStep",
    "Author",
    "Candidate",
    "ConcurrentActor",
    "ConfidenceMetric",
    "Context",
    "DraftStep",
    "DrafterMail",
    "EscalateStep",
    "EscalatorMail",
    "Evidence",
    "Generation",
    "GenerationRequest",
    "Generator",
    "Inbox",
    "ModelHandle",
    "ModelRequest",
    "Policy",
    "PolicyBase",
    "Rating",
    "RouterMail",
    "Score",
    "ScoreKind",
    "ScoreRequest",
    "Scorer",
    "SequentialActor",
    "StepAccepted",
    "StepAudited",
    "StepDrafted",
    "StepRegenerated",
    "StepScored",
    "StopReason",
    "Verdict",
    "VerifierMail",
    "note_retry",
]
