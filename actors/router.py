"""The Router applies the policy of the task: it accepts, escalates, or chooses between two candidates."""

from typing import ClassVar, assert_never

import msgspec

from arbiter.actors.actor import ActorContext, SequentialActor
from arbiter.actors.controllers import BudgetControl
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.policies import budget_control, target_names
from arbiter.actors.step_records import same_score_for_same_text
from arbiter.protocols.errors import ProblemError
from arbiter.protocols.messages import (
    Context,
    DraftStep,
    EscalateStep,
    RouterMail,
    StepAccepted,
    StepDrafted,
    StepGlimpsed,
    StepScored,
    Task,
)
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.records import Candidate, Glimpse

_CandidateMail = StepDrafted | StepScored
"""A message with candidates to decide about."""


class Router(SequentialActor[RouterMail]):
    """Applies the policy to each step, or to the glimpse of it.

    If a policy has two proposers, it waits for the candidates of both.
    """

    name: ClassVar[str] = "router"

    def __init__(self, inbox: Inbox[RouterMail], context: ActorContext) -> None:
        super().__init__(inbox, context)
        self._journal = context.journal
        self._budgets: dict[Policy, BudgetControl] = {}
        self._waiting: dict[Task, _CandidateMail] = {}

    async def serve(self, message: RouterMail) -> None:
        if isinstance(message, StepGlimpsed):
            await self._decide_early(message)
        elif isinstance(message, StepDrafted) and message.glimpse is not None:  # decided, but it breaks the rules
            await self._replace(message.context, message.id, message.draft, (), message.glimpse)
        elif len(message.context.task.policy.proposes(message.context.step)) == 1:
            await self._decide(message.context, message.id, _candidates(message)[0], ())
        else:
            await self._join(message)

    async def _decide_early(self, message: StepGlimpsed) -> None:
        """Have the draft or the target write the step, as the policy decides by the glimpse of it.

        Raises ``ProblemError`` if the policy keeps a step of the target, which is not written.
        """
        context, glimpse = message.context, message.glimpse
        evidence = msgspec.structs.replace(_evidence(context, None, ()), glimpse=glimpse)
        policy, threshold = self._current_policy(context, evidence)
        verdict = policy.decide(evidence)
        if verdict == "keep_draft":
            drafted = DraftStep(context, message.id, glimpse, threshold)
            await self._mailboxes.to_drafter(drafted, self.name)
        elif verdict == "escalate":
            target = _chosen_target(policy, evidence)
            escalated = EscalateStep(context, message.id, None, target, threshold, glimpse)
            await self._mailboxes.to_escalator(escalated, self.name)
        else:
            raise ProblemError(f"the policy decided {verdict!r} by a glimpse: return 'keep_draft' or 'escalate'")

    async def _join(self, message: _CandidateMail) -> None:
        """Keep the first of two messages until the second arrives, then decide."""
        task = message.context.task
        second = self._waiting.pop(task, None)
        if second is None:
            self._waiting[task] = message
            self._registry.when_closed(task, self._forget)
            return
        is_draft = _candidates(message)[0].author == "draft"
        drafted, regenerated = (message, second) if is_draft else (second, message)
        draft = _candidates(drafted)[0]
        targets = tuple(same_score_for_same_text(draft, target) for target in _candidates(regenerated))
        # always the same cause of the two, so that the log does not depend on which message arrived first
        await self._decide(message.context, regenerated.id, draft, targets)

    async def _decide(self, context: Context, cause: str, draft: Candidate, targets: tuple[Candidate, ...]) -> None:
        if draft.valid is False:
            await self._replace(context, cause, draft, targets)
            return
        evidence = _evidence(context, draft, targets)
        policy, threshold = self._current_policy(context, evidence)
        verdict = policy.decide(evidence)
        if verdict == "escalate":
            if targets:
                raise ProblemError("the policy escalated a step that the target has already written")
            target = _chosen_target(policy, evidence)
            escalated = EscalateStep(context=context, cause=cause, draft=draft, target=target, threshold=threshold)
            await self._mailboxes.to_escalator(escalated, self.name)
        else:
            chosen = StepAccepted(context, cause, verdict, draft, targets, threshold)
            await self._mailboxes.to_assembler(chosen, self.name)

    async def _replace(
        self,
        context: Context,
        cause: str,
        draft: Candidate,
        targets: tuple[Candidate, ...],
        glimpse: Glimpse | None = None,
    ) -> None:
        """Replace a draft that breaks the rules of the answer, without a decision of the policy.

        Of several targets, the first one writes the step.
        """
        if targets:
            kept = StepAccepted(context, cause, "keep_target", draft, targets)
            await self._mailboxes.to_assembler(kept, self.name)
        else:
            target = next(iter(target_names(context.task.policy.targets)), "")
            escalated = EscalateStep(context, cause, draft, target, glimpse=glimpse)
            await self._mailboxes.to_escalator(escalated, self.name)

    def _current_policy(self, context: Context, evidence: Evidence) -> tuple[Policy, float | None]:
        """Return the policy, and its threshold if a budget moves it.

        For a step that was decided in an earlier session, this is the recorded threshold, and the budget's threshold
        does not move: that decision has already moved it.
        """
        policy = context.task.policy
        if policy.budget is None:
            return policy, None
        if policy not in self._budgets:
            self._budgets[policy] = budget_control(policy, self._journal.threshold)
        control, threshold = self._budgets[policy], self._journal.decided(context.place)
        if threshold is None:
            threshold = control.threshold
            control.observe(policy.score(evidence))
        return policy.with_threshold(threshold), threshold

    def _forget(self, task: Task) -> None:
        self._waiting.pop(task, None)


def _evidence(context: Context, draft: Candidate | None, targets: tuple[Candidate, ...]) -> Evidence:
    task = context.task
    left = task.limits.max_tokens - context.kept_tokens
    return Evidence(task.seed_name, context.step, task.seed, draft, targets, context.history, left)


def _candidates(message: _CandidateMail) -> tuple[Candidate, ...]:
    match message:
        case StepDrafted(draft=draft):
            return (draft,)
        case StepScored(candidates=candidates):
            return candidates
        case _:
            assert_never(message)


def _chosen_target(policy: Policy, evidence: Evidence) -> str:
    """Raises ``ProblemError`` if the policy chooses a target that it does not list."""
    target, names = policy.target(evidence), target_names(policy.targets)
    if target not in (names or ("",)):
        raise ProblemError(
            f"the policy chose the target {target!r}, which is not one of its targets: {', '.join(names)}"
        )
    return target
