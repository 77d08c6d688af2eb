"""Messages: their ids, and the tags that distinguish the kinds of a mailbox."""

import re
from operator import attrgetter
from typing import get_args, get_type_hints

import pytest
from msgspec import structs

from arbiter.actors.policies import DraftOnly, LearnedRouter
from arbiter.protocols import events, messages
from arbiter.protocols.messages import (
    AuditStep,
    Context,
    DraftStep,
    EscalateStep,
    GlimpseStep,
    Message,
    StartProblem,
    StepAccepted,
    StepAudited,
    StepDrafted,
    StepFailed,
    StepGlimpsed,
    StepRegenerated,
    StepScored,
    Task,
)
from arbiter.protocols.records import AuditScores, Author, Candidate, Glimpse, Target, Transcript, Turn, Usage

DIGEST = attrgetter("digest")
MAILBOXES = ["AssemblerMail", "DrafterMail", "VerifierMail", "RouterMail", "EscalatorMail"]

TAGS = {
    StartProblem: "start_problem",
    GlimpseStep: "glimpse_step",
    StepGlimpsed: "step_glimpsed",
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


def one_of_each(step_context: Context, cause: str = "cause") -> list[Message]:
    draft, target = candidate("draft"), candidate("target")
    return [
        StartProblem(step_context, cause),
        GlimpseStep(step_context, cause, "target"),
        StepGlimpsed(step_context, cause, Glimpse("target", 0.5, Usage(), 1.0)),
        DraftStep(step_context, cause),
        EscalateStep(step_context, cause, draft),
        StepDrafted(step_context, cause, draft),
        StepRegenerated(step_context, cause, (target,), draft),
        StepScored(step_context, cause, (draft,)),
        StepScored(step_context, cause, (target,)),
        StepAccepted(step_context, cause, "keep_draft", draft),
        AuditStep(step_context, cause, draft, target),
        StepAudited(step_context, cause, AuditScores(0.1, 0.2)),
        *(StepFailed(step_context, cause, actor, "draft_step", "error") for actor in ("drafter", "verifier", "router")),
    ]


def sampled(step_context: Context, number: int) -> Context:
    """The same step in another sample."""
    return structs.replace(step_context, task=structs.replace(step_context.task, sample=number))


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
    contexts = [context(problem, step) for problem in ("1", "11", "1/1") for step in (0, 1, 11)]
    named = [name for step_context in contexts for name in ids(one_of_each(step_context))]
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
    contexts = [context(problem) for problem in ("p", "p#1", "p/0#1", "p/0")]
    named = [DraftStep(sampled(step_context, number), "cause").id for step_context in contexts for number in range(3)]
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


@pytest.mark.parametrize("message", one_of_each(context()))
def test_the_event_of_a_message_has_its_kind_and_its_name(message: Message) -> None:
    event = message.event_with(DIGEST)
    assert type(event) is type(message).event_type
    assert event.__struct_config__.tag == type(message).__struct_config__.tag
    assert type(event).__name__ == f"{type(message).__name__}Event"


@pytest.mark.parametrize("kind", [kind for kind in TAGS if kind is not StartProblem])
def test_each_field_of_an_event_is_an_attribute_of_its_message_of_the_same_type(kind: type[Message]) -> None:
    """Except the context: the event has its digest. ``StartProblem`` has the fields of its task."""
    hints = get_type_hints(kind)
    for field in structs.fields(kind.event_type):
        found = hints.get(field.name) or get_type_hints(getattr(kind, field.name).fget)["return"]
        assert (field.name, field.type) == (field.name, str if found is Context else found)


def test_the_events_of_messages_refer_to_contexts_and_candidates() -> None:
    step_context, draft, target = context(), candidate("draft"), candidate("target")
    assert DraftStep(step_context, "why").event_with(DIGEST) == events.DraftStepEvent(step_context.digest, 100)
    escalated = EscalateStep(step_context, "why", draft, "large", 0.5)
    assert escalated.event_with(DIGEST) == events.EscalateStepEvent(
        step_context.digest, 100, rejects=True, target="large", threshold=0.5
    )
    assert not EscalateStep(step_context, "why").rejects
    assert StepScored(step_context, "why", (target,)).event_with(DIGEST) == events.StepScoredEvent("target")
    assert StepAccepted(step_context, "why", "keep_draft", draft, (), 0.5).event_with(
        DIGEST
    ) == events.StepAcceptedEvent("keep_draft", 0.5)
    assert StepFailed(step_context, "why", "router", "step_scored", "bug").event_with(DIGEST) == events.StepFailedEvent(
        "router", "step_scored", "bug"
    )


def test_the_event_of_a_start_has_all_that_the_task_decides() -> None:
    policy = LearnedRouter(0.5, (Target("large", 2.0),))
    task = Task("p", Transcript("q", turns=(Turn("system", "s"),)), policy, seed=3, tags={"user": "me"})
    event = StartProblem(Context(task, 0, task.transcript, 100), "why").event_with(DIGEST)
    assert isinstance(event, events.StartProblemEvent)
    described = {"type": "router", "threshold": 0.5, "targets": [{"name": "large", "cost": 2.0}]}
    assert (event.question, event.turns, event.policy) == ("q", task.transcript.turns, described)
    same = ("limits", "sampling", "separator", "seed", "audit", "stop", "seed_key", "tags")
    assert [getattr(event, name) for name in same] == [getattr(task, name) for name in same]


def test_equal_transcripts_have_equal_digests_and_others_others() -> None:
    texts = ["question", "question ", "q"]
    assert context(question="question").digest == context("another", 3).digest
    assert len({context(question=text).digest for text in texts}) == len(texts)


def test_no_class_stands_in_messages_and_in_events() -> None:
    both = {name for name, found in vars(messages).items() if isinstance(found, type) and name in vars(events)}
    assert {name for name in both if vars(messages)[name].__module__ == messages.__name__} == set()


def test_every_kind_has_a_mailbox() -> None:
    assert {kind for mailbox in MAILBOXES for kind in kinds_of(mailbox)} == set(TAGS)
