"""Which steps may be passed on while they are written, and that their pieces are a beginning of them."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.glimpses import GlimpsedEscalation
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
from arbiter.actors.step_pieces import StreamedGenerator, can_stream
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.errors import BackendError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.ports import GenerationRequest
from arbiter.protocols.records import Author, Limits, ScoreKind, StepPiece, Target, Transcript, Verdict
from arbiter.protocols.tools import AnswerRules, Tool
from arbiter.structured.partial_marks import settled


class Reviewed(PolicyBase, frozen=True):
    """Only the target writes, and its steps are scored."""

    proposers: ClassVar[tuple[Author, ...]] = ("target",)
    score_kind: ClassVar[ScoreKind | None] = "prm"

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target"


class Several(PolicyBase, frozen=True):
    """Several targets write each step."""

    targets: tuple[str, ...] = ("a", "b")
    proposers: ClassVar[tuple[Author, ...]] = ("target",)

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target"


class ScoredDraft(PolicyBase, frozen=True):
    """The draft alone writes, and its steps are scored."""

    score_kind: ClassVar[ScoreKind | None] = "prm"
    decides: ClassVar[bool] = False

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft"


NEITHER: tuple[bool, bool] = (False, False)
CASES: list[tuple[Policy, tuple[bool, bool]]] = [  # whether steps of the draft, and of the target, may be streamed
    (DraftOnly(), (True, True)),
    (TargetOnly(), (False, True)),
    (RandomEscalation(0.5), (False, True)),
    (RewardThreshold(0.5), (False, True)),
    (LearnedRouter(0.5), (False, True)),
    (LearnedRouter(0.5, (Target("a"), Target("b"))), (False, True)),
    (ConfidenceThreshold(0.5), (False, True)),
    (JudgeThreshold(0.5), (False, True)),
    (Oracle(0.0), NEITHER),
    (GenerateRows(), NEITHER),
    (Reviewed(), NEITHER),
    (Several(), NEITHER),
    (ScoredDraft(), (False, True)),
    (TriggeredEscalation(0.9), (False, True)),
    (GlimpsedEscalation(0.5), (True, True)),
]
IDS = [f"{type(policy).__name__}-{len(policy.targets)}" for policy, _ in CASES]
WRITERS: tuple[Author, ...] = ("draft", "target")


def a_task(policy: Policy, **fields: object) -> Task:
    return msgspec.structs.replace(Task("p", Transcript("q"), policy), **fields)


@pytest.mark.parametrize(("policy", "expected"), CASES, ids=IDS)
def test_a_step_is_streamed_only_if_nothing_can_reject_it(policy: Policy, expected: tuple[bool, bool]) -> None:
    for rules in (None, AnswerRules(effort="low")):
        task = a_task(policy, transcript=Transcript("q", rules=rules))
        assert tuple(can_stream(task, 0, author, False) for author in WRITERS) == expected


@pytest.mark.parametrize("author", WRITERS)
@pytest.mark.parametrize("policy", [case[0] for case in CASES], ids=IDS)
@pytest.mark.parametrize(
    ("fields", "is_ahead"),
    [
        ({}, True),
        ({"limits": Limits(deadline=60.0)}, False),
        ({"transcript": Transcript("q", rules=AnswerRules((Tool("add"),)))}, False),
        ({"transcript": Transcript("q", rules=AnswerRules(schema="{}"))}, False),
        ({"top_logprobs": 0}, False),
    ],
    ids=["drafted ahead", "a deadline", "tools", "a schema", "log-probabilities"],
)
def test_no_step_is_streamed_that_may_be_dropped_or_requested_again(
    policy: Policy, author: Author, fields: dict[str, object], is_ahead: bool
) -> None:
    assert not can_stream(a_task(policy, **fields), 0, author, is_ahead)


MARKS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


@given(st.text("ab\n", max_size=12), st.text("ab\n", max_size=6), MARKS)
def test_a_settled_text_stays_whatever_follows(text: str, more: str, marks: list[str]) -> None:
    """A mark that begins in a text cuts it there, at the latest when all of the mark is written."""
    if any(mark in text for mark in marks):
        return
    whole = text + more
    cut = min((at for mark in marks if (at := whole.find(mark)) >= 0), default=len(whole))
    assert whole[:cut].startswith(settled(text, marks))


@given(st.text("ab\n", max_size=12), MARKS)
def test_no_more_is_held_back_than_may_belong_to_a_mark(text: str, marks: list[str]) -> None:
    held = text[len(settled(text, marks)) :]
    assert not held or any(mark.startswith(held) and mark != held for mark in marks)


def a_request() -> GenerationRequest:
    return GenerationRequest("p", 2, 0, "target", Transcript("q"), "\n\n", 100, 0.0, 1.0, 7)


def streamed(texts: Sequence[str], whole: str) -> list[StepPiece]:
    """Write ``whole``, and return its pieces where the model says ``texts`` meanwhile."""
    pieces: list[StepPiece] = []
    model = StreamedGenerator(ScriptedGenerator(lambda _: whole, texts=lambda _: texts), pieces.append)
    assert asyncio.run(model.generate(a_request())).text == whole
    return pieces


@given(st.text(max_size=20), st.lists(st.integers(0, 20), max_size=8))
def test_pieces_are_a_beginning_of_the_step_however_its_text_comes(whole: str, ends: list[int]) -> None:
    """Lengths that fall again are those of a request that is made again."""
    pieces = streamed([whole[:end] for end in ends], whole)
    assert "".join(piece.text for piece in pieces) == whole[: max(ends, default=0)]
    assert all(piece.text and (piece.step, piece.author) == (2, "target") for piece in pieces)


def test_a_repeated_request_continues_where_the_broken_one_ended() -> None:
    texts = ["one", "one two", "one", "one two", "one two three"]
    assert [piece.text for piece in streamed(texts, "one two three")] == ["one", " two", " three"]


def test_a_repeated_request_with_another_text_fails_and_is_not_passed_on() -> None:
    pieces: list[StepPiece] = []
    texts = ["one two", "two", "two three and more"]
    model = StreamedGenerator(ScriptedGenerator(lambda _: "two three and more", texts=lambda _: texts), pieces.append)
    with pytest.raises(BackendError, match=r"the target model wrote another text .* first 7 characters"):
        asyncio.run(model.generate(a_request()))
    assert [piece.text for piece in pieces] == ["one two"]
