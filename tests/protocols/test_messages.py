"""Messages: what names them, and what tells the kinds of a mailbox apart."""

import re
from typing import get_args

import pytest
from msgspec import structs

from arbiter.actors.policies import DraftOnly
from arbiter.protocols import messages
from arbiter.protocols.messages import (
    AuditStep,
    Context,
    DraftStep,
    EscalateStep,
    Message,
    StartProblem,
    StepAccepted,
    StepAudited,
    StepDrafted,
    StepFailed,
    StepRegenerated,
    StepScored,
    Task,
)
from arbiter.protocols.records import AuditScores, Author, Candidate, Transcript, Usage

MAILBOXES = ["AssemblerMail", "DrafterMail", "VerifierMail", "RouterMail", "EscalatorMail"]

TAGS = {
    StartProblem: "start_problem",
    DraftStep: "draft_step",
    EscalateStep: "escalate_step",
    StepDrafted: "step_drafted",
    StepRegenerated: "step_regenerated",
    StepScored: "step_scored",
    StepAccepted: "step_accepted",
    AuditStep: "audit_step",
    StepAudited: "step_audited",
    StepFailed: "step_failed",
}


def candidate(author: Author) -> Candidate:
    return Candidate(author, "a step", "separator", Usage(), 1.0)


def context(problem: str = "p", step: int = 0, question: str = "question") -> Context:
    transcript = Transcript(question)
    return Context(Task(problem, transcript, DraftOnly()), step, transcript, 100)


def one_of_each(place: Context, cause: str = "cause") -> list[Message]:
    draft, target = candidate("draft"), candidate("target")
    return [
        StartProblem(place, cause),
        DraftStep(place, cause),
        EscalateStep(place, cause, draft),
        StepDrafted(place, cause, draft),
        StepRegenerated(place, cause, (target,), draft),
        StepScored(place, cause, (draft,)),
        StepScored(place, cause, (target,)),
        StepAccepted(place, cause, "keep_draft", draft),
        AuditStep(place, cause, draft, target),
        StepAudited(place, cause, AuditScores(0.1, 0.2)),
        *(StepFailed(place, cause, actor, "draft_step", "error") for actor in ("drafter", "verifier", "router")),
    ]


def sampled(place: Context, number: int) -> Context:
    """The same place in another sample."""
    return structs.replace(place, task=structs.replace(place.task, sample=number))


def ids(sent: list[Message]) -> list[str]:
    return [message.id for message in sent]


def kinds_of(mailbox: str) -> tuple[type[Message], ...]:
    mail = getattr(messages, mailbox)
    return get_args(mail) or (mail,)


def test_an_id_is_the_same_whatever_led_to_the_message_and_whatever_it_carries() -> None:
    assert ids(one_of_each(context(), "one")) == ids(one_of_each(context(question="another"), "two"))


def test_ids_are_unique_among_the_kinds_at_one_place() -> None:
    named = ids(one_of_each(context()))
    assert len(set(named)) == len(named)


def test_ids_are_unique_among_problems_and_steps() -> None:
    places = [context(problem, step) for problem in ("1", "11", "1/1") for step in (0, 1, 11)]
    named = [name for place in places for name in ids(one_of_each(place))]
    assert len(set(named)) == len(named)


def test_two_failures_of_one_actor_at_one_step_have_ids_of_their_own() -> None:
    """The Verifier scores a draft and its targets from two messages; both can fail."""
    failed = [StepFailed(context(), "cause", "verifier", kind, "") for kind in ("step_drafted", "step_regenerated")]
    assert failed[0].id != failed[1].id


def test_an_id_tells_problem_step_and_kind() -> None:
    assert DraftStep(context("p", 3), "cause").id == "p/3/draft_step"


def test_an_id_tells_which_sample_of_a_problem_it_is_of() -> None:
    third = DraftStep(sampled(context("p", 3), 2), "cause")
    assert third.id == "p/3#2/draft_step"


def test_ids_are_unique_among_samples_whatever_the_problems_are_called() -> None:
    places = [context(problem) for problem in ("p", "p#1", "p/0#1", "p/0")]
    named = [DraftStep(sampled(place, number), "cause").id for place in places for number in range(3)]
    assert len(set(named)) == len(named)


def test_every_kind_has_its_tag_in_the_table() -> None:
    assert {kind: kind.__struct_config__.tag for kind in Message.__subclasses__()} == TAGS


@pytest.mark.parametrize("kind", TAGS)
def test_a_tag_is_an_explicit_string_and_not_the_class_name(kind: type[Message]) -> None:
    tag = kind.__struct_config__.tag
    assert isinstance(tag, str)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", tag)


@pytest.mark.parametrize("kind", TAGS)
def test_every_message_is_frozen_and_says_its_kind(kind: type[Message]) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__struct_config__.tag_field == "kind"


@pytest.mark.parametrize("mailbox", MAILBOXES)
def test_tags_are_unique_in_a_mailbox(mailbox: str) -> None:
    tags = [kind.__struct_config__.tag for kind in kinds_of(mailbox)]
    assert len(set(tags)) == len(tags) > 0


def test_every_kind_has_a_mailbox() -> None:
    assert {kind for mailbox in MAILBOXES for kind in kinds_of(mailbox)} == set(TAGS)
