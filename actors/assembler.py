"""The Assembler owns the transcripts: it appends chosen steps, decides when a problem is finished, and answers."""

import math
from collections.abc import Callable
from typing import ClassVar, assert_never

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream

from actors.actor import Actor, Posts
from actors.contexts import context_after, finish_reason
from actors.docket import Docket
from actors.seeds import unit_draw
from actors.telling import told
from protocols.events import Entry, ProblemEnded
from protocols.messages import (
    AssemblerMail,
    AuditStep,
    Context,
    DraftStep,
    EscalateStep,
    StartProblem,
    StepAudited,
    StepChosen,
    StepDrafted,
    StepFailed,
    StepRegenerated,
    Task,
)
from protocols.ports import Journal
from protocols.records import Candidate, FinishReason, Solution, StepRecord, Verdict


class Assembler(Actor[AssemblerMail]):
    """Hands each finished problem to ``answer``, called once a problem, and each chosen step to ``chosen``.

    Neither may block.
    """

    name: ClassVar[str] = "assembler"

    def __init__(
        self,
        inbox: MemoryObjectReceiveStream[AssemblerMail],
        posts: Posts,
        docket: Docket,
        journal: Journal,
        answer: Callable[[Task, Solution], None],
        chosen: Callable[[Task, StepRecord], None],
    ) -> None:
        super().__init__(inbox, posts, docket)
        self._journal = journal
        self._answer = answer
        self._chosen = chosen
        self._solving: dict[Task, _Progress] = {}

    async def serve(self, message: AssemblerMail) -> None:
        if isinstance(message, StartProblem):
            await self._solve(message)
            return
        progress = self._solving[message.context.task]
        match message:
            case StepDrafted(draft=draft):
                await self._keep(progress, message, StepRecord(candidates=(draft,), chosen=0))
            case StepRegenerated():
                await self._keep(progress, message, regenerated_record(message.draft, message.targets))
            case StepChosen():
                await self._keep(progress, message, chosen_record(message.verdict, message.draft, message.targets))
            case StepAudited(audit=audit):
                record = progress.steps[message.context.step]
                progress.steps[message.context.step] = msgspec.structs.replace(record, audit=audit)
                progress.audits_open -= 1
                progress.settle()
            case StepFailed(unserved="audit_step"):  # the report has one figure less; the tally says so
                progress.audits_open -= 1
                progress.settle()
            case StepFailed(actor=actor, error=error):
                progress.fail(failure(actor, message.context.step, error))
            case _:
                assert_never(message)

    async def _solve(self, message: StartProblem) -> None:
        """Live as long as the problem does: start it, wait for its end or its deadline, answer."""
        task = message.context.task
        progress = self._solving[task] = _Progress(task, anyio.current_time() - self._journal.spent(message.id))
        deadline = math.inf if task.limits.deadline is None else progress.started + task.limits.deadline
        try:
            with anyio.CancelScope(deadline=deadline):
                await self._ask(message.context, message.id)
                await progress.settled.wait()
        except Exception as error:  # a policy that cannot even be asked: who waits for the answer is told
            progress.fail(failure(self.name, 0, told(error)))
        finally:
            del self._solving[task]
        solution = progress.solution(self._docket, anyio.current_time())
        self._journal.note(_ended(message, solution))  # at once: nothing may come between the solution and its end
        self._answer(task, solution)
        self._docket.close(task)

    async def _ask(self, context: Context, cause: str) -> None:
        for role in context.task.policy.proposers:
            if role == "draft":
                await self._posts.to_drafter(DraftStep(context=context, cause=cause), self.name)
            else:
                await self._posts.to_escalator(EscalateStep(context=context, cause=cause), self.name)

    async def _keep(
        self, progress: "_Progress", message: StepDrafted | StepRegenerated | StepChosen, record: StepRecord
    ) -> None:
        """Append the chosen step; ask for the next one unless the problem has come to its end."""
        context, task = message.context, message.context.task
        progress.steps.append(record)
        self._chosen(task, record)
        progress.finish = finish_reason(context, record.kept)
        if _audited(task, context.step, record):
            progress.audits_open += 1
            audit = AuditStep(context=context, cause=message.id, draft=record.candidates[0], target=record.kept)
            await self._posts.to_verifier(audit, self.name)
        if progress.finish is not None:
            progress.settle()
            return
        await self._ask(context_after(context, record.kept), message.id)


class _Progress:
    """A problem on its way."""

    def __init__(self, task: Task, started: float) -> None:
        self.task = task
        self.started = started
        self.steps: list[StepRecord] = []
        self.finish: FinishReason | None = None
        self.error: str | None = None
        self.audits_open = 0
        self.settled = anyio.Event()

    def fail(self, error: str) -> None:
        """The first failure of a problem is its result."""
        self.finish, self.error = "failed", self.error or error
        self.settled.set()

    def settle(self) -> None:
        if self.finish is not None and self.audits_open == 0:
            self.settled.set()

    def solution(self, docket: Docket, now: float) -> Solution:
        return Solution(
            problem=self.task.id,
            question=self.task.transcript.question,
            steps=tuple(self.steps),
            finish=self.finish or "deadline",
            seconds=round(now - self.started, 6),
            calls=docket.calls(self.task),
            error=self.error,
            sample=self.task.sample,
            predrafts=docket.predrafts(self.task),
        )


def failure(actor: str, step: int, error: str) -> str:
    """What is told of a problem that failed at ``step``, counted from 0."""
    return f"{actor}, step {step + 1}: {error}"


def _ended(message: StartProblem, solution: Solution) -> Entry:
    audited = sum(step.audit is not None for step in solution.steps)
    ended = ProblemEnded(solution.finish, len(solution.steps), solution.seconds, audited, solution.error)
    place = message.id.removesuffix("start_problem")
    return Entry(
        f"{place}problem_ended", "assembler", ended, message.id, solution.problem, solution.sample, message.context.step
    )


def regenerated_record(draft: Candidate | None, targets: tuple[Candidate, ...]) -> StepRecord:
    """The record of a step that the target wrote, alone or in place of a rejected ``draft``."""
    if draft is None:
        return StepRecord(candidates=targets, chosen=0)
    return StepRecord(candidates=(draft, *targets), chosen=1, verdict="escalate")


def chosen_record(verdict: Verdict, draft: Candidate | None, targets: tuple[Candidate, ...]) -> StepRecord:
    """The record of a step for which the policy kept one of the candidates that were there."""
    candidates = (*((draft,) if draft else ()), *targets)
    author = "draft" if verdict == "keep_draft" else "target"
    index = next(i for i, candidate in enumerate(candidates) if candidate.author == author)
    return StepRecord(candidates=candidates, chosen=index, verdict=verdict)


def _audited(task: Task, step: int, record: StepRecord) -> bool:
    return record.verdict == "escalate" and unit_draw(task.seed, task.id, step, "audit") < task.audit
