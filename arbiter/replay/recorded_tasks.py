"""Convert recorded problems into tasks that a ring can solve again."""

import msgspec

from arbiter.actors.beliefs import BeliefConfidence, BeliefReward
from arbiter.actors.glimpses import GlimpsedEscalation
from arbiter.actors.pacing import PacedConfidence, PacedJudge, PacedReward, PacedRouter
from arbiter.actors.policies import (
    ConfidenceThreshold,
    DraftOnly,
    GenerateRows,
    JudgeThreshold,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
)
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.log.history import ProblemHistory
from arbiter.protocols.errors import RunError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy

AnyPolicy = (
    DraftOnly
    | TargetOnly
    | RandomEscalation
    | RewardThreshold
    | LearnedRouter
    | ConfidenceThreshold
    | JudgeThreshold
    | Oracle
    | GenerateRows
    | TriggeredEscalation
    | PacedConfidence
    | PacedRouter
    | PacedReward
    | PacedJudge
    | GlimpsedEscalation
    | BeliefConfidence
    | BeliefReward
)


def task_of(problem: ProblemHistory, policy: Policy | None = None) -> Task:
    """Return the recorded task, or the same task with ``policy``. Raises ``RunError`` if its policy is unknown."""
    given = problem.task
    return Task(
        id=problem.key[0],
        transcript=given.transcript(),
        policy=policy or _policy(problem),
        limits=given.limits,
        sampling=given.sampling,
        separator=given.separator,
        seed=given.seed,
        audit=given.audit,
        sample=problem.key[1],
        stop=given.stop,
        seed_key=given.seed_key,
        tags=given.tags,
        top_logprobs=given.top_logprobs,
        token_exact=given.token_exact,
    )


def _policy(problem: ProblemHistory) -> Policy:
    recorded = problem.task.policy
    try:
        return msgspec.convert(recorded, AnyPolicy)
    except msgspec.ValidationError as error:
        raise RunError(
            f"problem {problem.key[0]!r} was solved by the policy {recorded.get('type')!r}, which cannot be replayed: "
            f"it is not one of Arbiter's built-in policies ({error})"
        ) from error
