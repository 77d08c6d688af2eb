"""Ids: the text of each kind, and that parsing returns the parts that it was built from."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.policies import DraftOnly
from arbiter.actors.requests import ModelRequest
from arbiter.protocols import ids
from arbiter.protocols.ids import CallId, MessageId, MessageKind, StepId, StepKind
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
from arbiter.protocols.records import AuditScores, Author, Candidate, Glimpse, Model, Transcript, Usage

KINDS: list[str] = [str(kind.__struct_config__.tag) for kind in Message.__subclasses__()]
MODELS: tuple[Model, ...] = get_args(Model)
ROLES: tuple[Author, ...] = get_args(Author)
ACTORS = ("assembler", "drafter", "verifier", "router", "escalator", "my own")
PIECES = ["/", "#", " ", "\n", "0", "1#2", *KINDS, *MODELS, *ACTORS, "answer", "retry", "graded", "p", "é", "\ud800"]
LOOKALIKES = ["", "a/0/draft_step/draft/0", "p/0#1", "p#1", "x/3/step_failed", "x/0/step_scored/draft", "1/2/3"]

problems = st.one_of(
    st.sampled_from(LOOKALIKES),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=8).map("/".join),
    st.text(),
)
numbers = st.integers(0, 3) | st.integers(0, 10**6)
steps = st.builds(StepId, problems, numbers, numbers)


def messages_of(step: StepId) -> list[tuple[Message, MessageId]]:
    """Messages of each kind at ``step``, for each author, actor and unserved kind, with their parsed ids."""
    task = Task(step.problem, Transcript("?"), DraftOnly(), sample=step.sample)
    at, cause = Context(task, step.step, task.transcript, 100), "cause"
    draft, target = (Candidate(role, "a step", "separator", Usage(), 1.0) for role in ROLES)
    plain: list[tuple[Message, StepKind]] = [
        (StartProblem(at, cause), "start_problem"),
        (GlimpseStep(at, cause, "draft"), "glimpse_step"),
        (StepGlimpsed(at, cause, Glimpse("draft", 0.5, Usage(), 1.0)), "step_glimpsed"),
        (DraftStep(at, cause), "draft_step"),
        (EscalateStep(at, cause, draft), "escalate_step"),
        (StepDrafted(at, cause, draft), "step_drafted"),
        (StepRegenerated(at, cause, (target,), draft), "step_regenerated"),
        (StepAccepted(at, cause, "keep_draft", draft), "step_accepted"),
        (AuditStep(at, cause, draft, target), "audit_step"),
        (StepAudited(at, cause, AuditScores(0.1, 0.2)), "step_audited"),
    ]
    found = [(message, MessageId(step, kind)) for message, kind in plain]
    scored = (StepScored(at, cause, (draft,)), StepScored(at, cause, (target,)))
    found += zip(scored, (MessageId(step, "step_scored", (author,)) for author in ROLES), strict=True)
    failed = [(actor, kind) for actor in ACTORS for kind in KINDS]
    found += [(StepFailed(at, cause, *of, "error"), MessageId(step, "step_failed", of)) for of in failed]
    return found


def test_every_kind_of_message_is_in_the_grammar_and_nothing_else() -> None:
    assert {kind for kinds in get_args(MessageKind) for kind in get_args(kinds)} == set(KINDS)
    assert {parsed.kind for _, parsed in messages_of(StepId("p", 0))} == set(KINDS)


@given(steps)
def test_the_id_of_every_message_is_parsed_to_its_step_and_kind(step: StepId) -> None:
    for message, parsed in messages_of(step):
        assert MessageId.parse(message.id) == parsed
        assert str(parsed) == message.id


@given(steps, numbers)
def test_the_id_of_every_call_is_parsed_to_its_message_model_and_index(step: StepId, index: int) -> None:
    for message, parsed in messages_of(step)[:12]:
        for model in MODELS:
            call = ModelRequest("actor", message, model, index)
            assert CallId.parse(call.id) == CallId(parsed, model, index)
            assert str(CallId(parsed, model, index)) == call.id
            assert CallId.parse(call.id).is_ahead == call.is_ahead


@given(steps, numbers)
def test_no_id_is_of_two_kinds(step: StepId, number: int) -> None:
    for message, _ in messages_of(step)[:12]:
        call = ids.call_id(message.id, "draft", number)
        assert not is_call(message.id)
        assert not is_message(call)
        for name in (ids.answer_id(call), ids.retry_id(call, number)):
            assert not is_message(name)
            assert not is_call(name)
    for name in (ids.graded_id(step.problem, number), ids.problem_ended_id(step.problem, step.step, step.sample)):
        assert not is_message(name)
        assert not is_call(name)


@given(steps)
def test_a_step_is_named_as_its_messages_begin(step: StepId) -> None:
    for message, _ in messages_of(step):
        assert message.context.place == str(step)
        assert message.id.startswith(f"{step}/")


def test_ids_are_as_the_first_logs_have_them() -> None:
    assert ids.step_id("pocket-1-9", 4, 0) == "pocket-1-9/4"
    assert ids.step_id("pocket-1-9", 4, 1) == "pocket-1-9/4#1"
    assert ids.message_id("p", 0, 0, "start_problem") == "p/0/start_problem"
    assert ids.message_id("p", 1, 2, "draft_step") == "p/1#2/draft_step"
    assert ids.scored_id("p", 1, 2, "draft") == "p/1#2/step_scored/draft"
    assert ids.failed_id("p", 1, 0, "router", "step_scored") == "p/1/step_failed/router/step_scored"
    assert ids.call_id("p/1#2/draft_step", "draft", 3) == "p/1#2/draft_step/draft/3"
    assert ids.answer_id("p/1/draft_step/draft/0") == "p/1/draft_step/draft/0/answer"
    assert ids.retry_id("p/1/draft_step/draft/0", 1) == "p/1/draft_step/draft/0/retry/1"
    assert ids.problem_ended_id("p", 0, 0) == "p/0/problem_ended"
    assert ids.problem_ended_id("p", 0, 2) == "p/0#2/problem_ended"
    assert ids.graded_id("p", 0) == "p#0/graded"
    assert ids.run_started_id(0) == "run_started/0"
    assert ids.run_ended_id(1) == "run_ended/1"
    assert ids.limit_id("targets.big", 7) == "limit/targets.big/7"


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("a/0/draft_step/draft/0/0/draft_step", StepId("a/0/draft_step/draft/0", 0)),
        ("p/0#1/0/draft_step", StepId("p/0#1", 0)),
        ("p #1/3#2/draft_step", StepId("p #1", 3, 2)),
        ("x/3/step_failed/0/draft_step", StepId("x/3/step_failed", 0)),
        ("/0/draft_step", StepId("", 0)),
    ],
)
def test_a_problem_that_looks_like_an_id_is_told_from_the_id_around_it(text: str, step: StepId) -> None:
    assert MessageId.parse(text) == MessageId(step, "draft_step")


NO_STEP = ["", "p", "draft_step", "0/draft_step", "p/draft_step", "p/x/draft_step", "p/-1/draft_step"]
NOT_AS_BUILT = ["p/00/draft_step", "p/0#0/draft_step", "p/0#01/draft_step", "p/0#/draft_step", "p/٣/draft_step"]
NO_KIND = ["p/0", "p/0/", "p/0/draft_step/", "p/0/draft_step\n", "p/0/problem_ended", "p/0/step_scored"]
NO_QUALIFIER = ["p/0/step_scored/prm", "p/0/step_failed/router", "p/0/step_failed/router/graded"]


@pytest.mark.parametrize("text", NO_STEP + NOT_AS_BUILT + NO_KIND + NO_QUALIFIER)
def test_what_is_no_message_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not the id of a message") as refused:
        MessageId.parse(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p/0/draft_step",
        "p/0/draft_step/draft",
        "p/0/draft_step/oracle/0",
        "draft/0",
        "p/0/draft_step/draft/0/answer",
        "p/0/draft_step/draft/-1",
        "p/0/draft_step/draft/00",
        "p/0/draft_step/draft/0\n",
        "p/0/nonsense/draft/0",
    ],
)
def test_what_is_no_call_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not the id of a call") as refused:
        CallId.parse(text)
    assert repr(text) in str(refused.value)


def is_message(text: str) -> bool:
    try:
        MessageId.parse(text)
    except ValueError:
        return False
    return True


def is_call(text: str) -> bool:
    try:
        CallId.parse(text)
    except ValueError:
        return False
    return True
