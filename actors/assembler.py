"""The Assembler owns the transcripts: it appends kept steps, decides when a problem ends, and reports its solution."""

from typing import ClassVar, assert_never

import anyio
import msgspec
from anyio.abc import TaskGroup

from arbiter.actors.actor import ActorContext, SequentialActor
from arbiter.actors.journal import message_entry
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.registry import ProblemRegistry
from arbiter.actors.seeds import unit_draw
from arbiter.actors.step_records import chosen_record, drafted_record, regenerated_record
from arbiter.actors.transcripts import context_after, finish_reason
from arbiter.protocols.errors import ProblemError
from arbiter.protocols.events import Entry, ProblemEnded
from arbiter.protocols.ids import problem_ended_id
from arbiter.protocols.messages import (
    AssemblerMail,
    AuditStep,
    Context,
    DraftStep,
    EscalateStep,
    GlimpseStep,
    StartProblem,
    StepAccepted,
    StepAudited,
    StepDrafted,
    StepFailed,
    StepRegenerated,
    Task,
)
from arbiter.protocols.records import FinishReason, Solution, StepRecord


class Assembler(SequentialActor[AssemblerMail]):
    """Reports each kept step, and the solution of each problem, to the ring (see ``ActorContext``).

    ``tasks`` runs the deadlines of problems.
    """

    name: ClassVar[str] = "assembler"

    def __init__(self, inbox: Inbox[AssemblerMail], context: ActorContext, tasks: TaskGroup) -> None:
        super().__init__(inbox, context)
        self._journal = context.journal
        self._tasks = tasks
        self._solving: dict[Task, _Progress] = {}

    async def handle(self, message: AssemblerMail) -> None:
        if isinstance(message, StartProblem):
            task = message.context.task
            progress = _Progress(task, message, anyio.current_time() - self._journal.spent(message.id))
            self._solving[task] = progress
            self._registry.when_closed(task, self._forget)
            if task.limits.deadline is not None:
                self._tasks.start_soon(self._end_at_deadline, progress, progress.started + task.limits.deadline)
        await super().handle(message)

    async def serve(self, message: AssemblerMail) -> None:
        progress = self._solving[message.context.task]
        match message:
            case StartProblem():
                await self._request_step(message.context, message.id)
            case StepDrafted(draft=draft):
                await self._keep(progress, message, drafted_record(draft, message.glimpse))
            case StepRegenerated(draft=draft):
                await self._keep(progress, message, regenerated_record(draft, message.targets, message.glimpse))
            case StepAccepted():
                await self._keep(progress, message, chosen_record(message.verdict, message.draft, message.targets))
            case StepAudited(audit=audit):
                record = progress.steps[message.context.step]
                progress.steps[message.context.step] = msgspec.structs.replace(record, audit=audit)
                progress.audits_open -= 1
            case StepFailed(
                failed_kind="audit_step"
            ):  # the step then has no audit scores; the count of audited steps shows that
                progress.audits_open -= 1
            case StepFailed(actor=actor, error=error):
                progress.fail(failure(actor, message.context.step, error))
            case _:
                assert_never(message)
        if progress.is_settled:
            self._end(progress)

    async def _send_failure(self, failed: StepFailed) -> None:
        """Handle its own failures directly, without passing through the outbox."""
        if self._journal.kept:
            await self._journal.write(message_entry(failed, self.name, self.name, self._registry.digest))
        await self.serve(failed)

    async def _end_at_deadline(self, progress: "_Progress", deadline: float) -> None:
        """End the problem at its deadline."""
        if progress.task not in self._registry:  # the problem ended before this task started
            return
        with self._registry.work(progress.task):
            await anyio.sleep_until(deadline)
            self._end(progress)

    def _end(self, progress: "_Progress") -> None:
        """Report the solution and close the problem, unless it is already closed."""
        task = progress.task
        if task not in self._registry:
            return
        solution = progress.solution(self._registry, anyio.current_time())
        if self._journal.kept:  # without waiting: nothing may happen between the solution and its event
            self._journal.note(_ended(progress.start, solution))
        self._context.report_solution(task, solution)
        self._registry.close(task)

    def _forget(self, task: Task) -> None:
        self._solving.pop(task, None)

    async def _request_step(self, context: Context, cause: str) -> None:
        """Send the messages that request the step of ``context``.

        Raises ``ProblemError`` if the policy has no proposer for it, or an unknown one.
        """
        policy = context.task.policy
        proposers = policy.proposes(context.step)
        if not proposers or not {"target", *policy.proposers}.issuperset(proposers):
            raise ProblemError(
                f"the policy proposes the step with {proposers!r}: return its proposers {policy.proposers!r}, some of "
                "them, or ('target',)"
            )
        if policy.glimpse is not None and proposers == policy.proposers:
            await self._request_glimpse(GlimpseStep(context, cause, policy.glimpse))
            return
        for role in proposers:
            if role == "draft":
                await self._mailboxes.to_drafter(DraftStep(context, cause), self.name)
            else:
                await self._mailboxes.to_escalator(EscalateStep(context, cause), self.name)

    async def _request_glimpse(self, message: GlimpseStep) -> None:
        if message.author == "draft":
            await self._mailboxes.to_drafter(message, self.name)
        else:
            await self._mailboxes.to_escalator(message, self.name)

    async def _keep(
        self, progress: "_Progress", message: StepDrafted | StepRegenerated | StepAccepted, record: StepRecord
    ) -> None:
        """Append the kept step, and request the next one unless the problem ends with it."""
        context, task = message.context, message.context.task
        progress.steps.append(record)
        self._context.report_step(task, record)
        progress.finish = finish_reason(context, record.kept)
        if _audited(task, context.step, record):
            progress.audits_open += 1
            audit = AuditStep(context=context, cause=message.id, draft=record.candidates[0], target=record.kept)
            await self._mailboxes.to_verifier(audit, self.name)
        if progress.finish is None:
            await self._request_step(context_after(context, record.kept, record), message.id)


class _Progress:
    """An open problem and its kept steps."""

    __slots__ = ("_failed", "audits_open", "error", "finish", "start", "started", "steps", "task")

    def __init__(self, task: Task, start: StartProblem, started: float) -> None:
        self.task = task
        self.start = start
        self.started = started
        self.steps: list[StepRecord] = []
        self.finish: FinishReason | None = None
        self.error: str | None = None
        self.audits_open = 0
        self._failed = False

    @property
    def is_settled(self) -> bool:
        """Whether the problem has ended and no audit is missing."""
        return self._failed or (self.finish is not None and self.audits_open == 0)

    def fail(self, error: str) -> None:
        """End the problem with ``error`` as its result."""
        self._failed, self.finish, self.error = True, "failed", error

    def solution(self, registry: ProblemRegistry, now: float) -> Solution:
        return Solution(
            problem=self.task.id,
            question=self.task.transcript.question,
            steps=tuple(self.steps),
            finish_reason=self.finish or "deadline",
            seconds=round(now - self.started, 6),
            requests=registry.request_counts(self.task),
            error=self.error,
            sample=self.task.sample,
            lookahead=registry.lookahead(self.task),
            targets=registry.target_counts(self.task),
            separator=self.task.separator,
            stop=self.task.stop,
        )


def failure(actor: str, step: int, error: str) -> str:
    """Return the error text of a problem that failed at ``step``, counted from 0."""
    return f"{actor}, step {step + 1}: {error}"


def _ended(message: StartProblem, solution: Solution) -> Entry:
    audited = sum(step.audit is not None for step in solution.steps)
    ended = ProblemEnded(solution.finish_reason, len(solution.steps), solution.seconds, audited, solution.error)
    problem, sample, step = solution.problem, solution.sample, message.context.step
    name = problem_ended_id(problem, step, sample)
    return Entry(name, "assembler", ended, message.id, problem, sample, step, derived=True)


def _audited(task: Task, step: int, record: StepRecord) -> bool:
    if record.verdict != "escalate" or not task.audit or record.draft is None or record.draft.valid is False:
        return False
    return unit_draw(task.seed, task.seed_name, step, "audit") < task.audit
