"""The names for your own backends, policies, actors and graders, in addition to the names in ``arbiter``.

- A backend is a class with ``generate`` or ``score`` (``Generator``, ``Scorer``). Pass it to ``Arbiter`` in ``Models``.
- A policy is a subclass of ``PolicyBase`` with ``decide``. Pass it to a call as ``policy``.
- An actor is a subclass of ``ConcurrentActor`` or ``SequentialActor``. Pass it to ``Arbiter`` in ``ActorFactories``.
- A grader is a function that returns a ``Grade``. Name it in the configuration (``[data] grader``).

``examples/`` has one of each.
"""

from arbiter.actors.actor import Actor, ActorContext, ConcurrentActor, SequentialActor
from arbiter.actors.beliefs import BeliefConfidence, BeliefReward, StepModel
from arbiter.actors.factories import ActorFactories
from arbiter.actors.glimpses import GlimpsedEscalation
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.pacing import PacedConfidence, PacedJudge, PacedReward, PacedRouter
from arbiter.actors.policies import (
    ConfidenceThreshold,
    DraftOnly,
    GenerateRows,
    JudgeThreshold,
    LearnedRouter,
    Oracle,
    PolicyBase,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
)
from arbiter.actors.requests import ModelRequest, note_retry
from arbiter.actors.ring import Ring, open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.data.tasks import make_task
from arbiter.grading.choice_grader import ChoiceGrader
from arbiter.grading.code.code_grader import CodeGrader
from arbiter.grading.code.sandboxes import Sandbox, SandboxLimits
from arbiter.grading.found_graders import find_grader
from arbiter.grading.grader import FunctionGrader
from arbiter.grading.judge_grader import JudgeGrader
from arbiter.grading.text_grader import TextGrader
from arbiter.log.sessions import open_journal
from arbiter.protocols.messages import (
    AuditStep,
    Context,
    DrafterMail,
    DraftStep,
    EscalateStep,
    EscalatorMail,
    GlimpseStep,
    RouterMail,
    StepAccepted,
    StepAudited,
    StepDrafted,
    StepGlimpsed,
    StepRegenerated,
    StepScored,
    Task,
    VerifierMail,
)
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.ports import (
    Gather,
    Generation,
    GenerationRequest,
    Generator,
    ModelHandle,
    Score,
    Scorer,
    ScoreRequest,
    StreamsText,
)
from arbiter.protocols.records import (
    AuditScores,
    Author,
    Candidate,
    ConfidenceMetric,
    Glimpse,
    Judgement,
    Limits,
    Rating,
    Sampling,
    ScoreKind,
    StopReason,
    Target,
    Transcript,
    Turn,
    Verdict,
)
from arbiter.runs.graders import grading_request
from arbiter.runs.model_opening import open_models
from arbiter.runs.results import Result, Summary

__all__ = [
    "Actor",
    "ActorContext",
    "ActorFactories",
    "AuditScores",
    "AuditStep",
    "Author",
    "BeliefConfidence",
    "BeliefReward",
    "Candidate",
    "ChoiceGrader",
    "CodeGrader",
    "ConcurrentActor",
    "ConfidenceMetric",
    "ConfidenceThreshold",
    "Context",
    "DraftOnly",
    "DraftStep",
    "DrafterMail",
    "EscalateStep",
    "EscalatorMail",
    "Evidence",
    "FunctionGrader",
    "Gather",
    "GenerateRows",
    "Generation",
    "GenerationRequest",
    "Generator",
    "Glimpse",
    "GlimpseStep",
    "GlimpsedEscalation",
    "Inbox",
    "JudgeGrader",
    "JudgeThreshold",
    "Judgement",
    "LearnedRouter",
    "Limits",
    "ModelHandle",
    "ModelRequest",
    "Models",
    "Oracle",
    "PacedConfidence",
    "PacedJudge",
    "PacedReward",
    "PacedRouter",
    "Policy",
    "PolicyBase",
    "RandomEscalation",
    "Rating",
    "Result",
    "RewardThreshold",
    "Ring",
    "RouterMail",
    "Sampling",
    "Sandbox",
    "SandboxLimits",
    "Score",
    "ScoreKind",
    "ScoreRequest",
    "Scorer",
    "ScriptedGenerator",
    "ScriptedScorer",
    "SequentialActor",
    "StepAccepted",
    "StepAudited",
    "StepDrafted",
    "StepGlimpsed",
    "StepModel",
    "StepRegenerated",
    "StepScored",
    "StopReason",
    "StreamsText",
    "Summary",
    "Target",
    "TargetOnly",
    "Task",
    "TextGrader",
    "Transcript",
    "TriggeredEscalation",
    "Turn",
    "Verdict",
    "VerifierMail",
    "find_grader",
    "grading_request",
    "make_task",
    "note_retry",
    "open_journal",
    "open_models",
    "open_ring",
    "solve_all",
]
