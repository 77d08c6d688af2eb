"""One frozen struct a message, one tagged union a mailbox.

The way of a step (A Assembler, D Drafter, V Verifier, R Router, E Escalator)::

    draft                A → D → A
    target               A → E → A
    random               A → D → R → (A or E → A)
    router, rsd          A → D → V → R → (A or E → A)
    oracle, generate     A → {D and E at once} → V → R → A

A message's id is computed from its kind and its place in its problem, never from a counter or a clock, so
that it is the same at every concurrency.
"""

from collections.abc import Mapping
from typing import cast

import msgspec

from arbiter.protocols.ids import StepKind, failed_id, message_id, scored_id, step_id
from arbiter.protocols.ports import Policy
from arbiter.protocols.records import AuditScores, Candidate, Limits, Sampling, Transcript, Verdict


class Task(msgspec.Struct, frozen=True, eq=False):
    """A problem as it is given to the ring.

    ``id`` is the problem's, and ``sample`` says which of its decodings this is; the two together are unique among the
    problems in the ring. Samples differ by their ``seed`` alone.

    Two tasks are never equal, so that a problem that is given again is not mistaken for the one before.

    ``audit`` is the share of escalations, 0 to 1, whose both candidates the PRM scores off the path. ``stop`` are texts
    that end the answer where one of them comes up first. All that is drawn by chance depends on ``noise`` in the place
    of the ``id``, if it is given, so that equal problems with different ids can be given equal answers. ``tags`` are
    its user's own words about it, which stand in the log and change nothing.
    """

    id: str
    transcript: Transcript
    policy: Policy
    limits: Limits = Limits()
    sampling: Sampling = Sampling()
    separator: str = "\n\n"
    seed: int = 0
    audit: float = 0.0
    sample: int = 0
    stop: tuple[str, ...] = ()
    seed_key: str | None = None
    tags: Mapping[str, str] = {}

    @property
    def seed_name(self) -> str:
        """The name under which chance is drawn for it."""
        return self.id if self.seed_key is None else self.seed_key


class Context(msgspec.Struct, frozen=True):
    """The context x_k of a step: its problem, its index k from 0, the steps before it, and the tokens it may take.

    ``kept_tokens`` are those that the kept steps before it have used up.
    """

    task: Task
    step: int
    transcript: Transcript
    max_tokens: int
    kept_tokens: int = 0

    @property
    def place(self) -> str:
        """The id of its step, with which the ids of its messages begin."""
        return step_id(self.task.id, self.step, self.task.sample)


class Message(msgspec.Struct, frozen=True, tag_field="kind"):
    """Base of all messages; ``cause`` is the id of the message that led to this one."""

    context: Context
    cause: str

    @property
    def id(self) -> str:
        context, task = self.context, self.context.task
        return message_id(task.id, context.step, task.sample, cast("StepKind", self.__struct_config__.tag))


class StartProblem(Message, frozen=True, tag="start_problem"):
    """To the Assembler: solve this problem. Its context is the first step's."""


class DraftStep(Message, frozen=True, tag="draft_step"):
    """To the Drafter: write a step."""


class EscalateStep(Message, frozen=True, tag="escalate_step"):
    """To the Escalator: write a step; ``draft`` is the rejected one, None where none was tried before.

    ``target`` is the name of the target that is to replace it, where the policy knows several; ``threshold`` is where
    it stood at the decision, where a budget moves it.
    """

    draft: Candidate | None = None
    target: str = ""
    threshold: float | None = None


class StepDrafted(Message, frozen=True, tag="step_drafted"):
    """From the Drafter."""

    draft: Candidate


class StepRegenerated(Message, frozen=True, tag="step_regenerated"):
    """From the Escalator: the target's samples, and the rejected draft that they replace."""

    targets: tuple[Candidate, ...]
    draft: Candidate | None = None


class StepScored(Message, frozen=True, tag="step_scored"):
    """From the Verifier to the Router: candidates of one author, each with its rating."""

    candidates: tuple[Candidate, ...]

    @property
    def id(self) -> str:
        context, task = self.context, self.context.task
        return scored_id(task.id, context.step, task.sample, self.candidates[0].author)


class StepAccepted(Message, frozen=True, tag="step_accepted"):
    """From the Router to the Assembler: a candidate that is there is kept. ``threshold`` as in ``EscalateStep``."""

    verdict: Verdict
    draft: Candidate | None
    targets: tuple[Candidate, ...] = ()
    threshold: float | None = None


class AuditStep(Message, frozen=True, tag="audit_step"):
    """To the Verifier: score both candidates of an escalated step for the report; the step is decided already."""

    draft: Candidate
    target: Candidate


class StepAudited(Message, frozen=True, tag="step_audited"):
    """From the Verifier to the Assembler."""

    audit: AuditScores


class StepFailed(Message, frozen=True, tag="step_failed"):
    """To the Assembler: ``actor`` could not serve a message of the kind ``failed_kind``; ``error`` says why."""

    actor: str
    failed_kind: str
    error: str

    @property
    def id(self) -> str:
        context, task = self.context, self.context.task
        return failed_id(task.id, context.step, task.sample, self.actor, self.failed_kind)


AssemblerMail = StartProblem | StepDrafted | StepRegenerated | StepAccepted | StepAudited | StepFailed
DrafterMail = DraftStep
VerifierMail = StepDrafted | StepRegenerated | AuditStep
RouterMail = StepDrafted | StepScored
EscalatorMail = EscalateStep
