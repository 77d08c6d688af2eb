"""The Assembler's pure functions: when a problem is finished, what comes next, and what is recorded."""

import msgspec
import pytest

from actors.assembler import chosen_record, finish_reason, next_context, regenerated_record
from actors.policies import DraftOnly
from protocols.messages import Context, Task
from protocols.records import (
    Candidate,
    Ending,
    FinishReason,
    Limits,
    Role,
    Step,
    StepRecord,
    Transcript,
    Usage,
    Verdict,
)

TASK = Task("p", Transcript("question"), DraftOnly())
CONTEXT = Context(task=TASK, step=0, transcript=TASK.transcript, max_tokens=10)
WIDE = Limits(max_steps=100, max_tokens=1000, repeats=3)


def candidate(text: str, ending: Ending = "separator", tokens: int = 10, author: Role = "draft") -> Candidate:
    return Candidate(author, text, ending, Usage(completion_tokens=tokens), 1.0)


def kept(text: str, ending: Ending = "separator", tokens: int = 10) -> StepRecord:
    return StepRecord(candidates=(candidate(text, ending, tokens),), chosen=0)


@pytest.mark.parametrize(
    ("steps", "limits", "reason"),
    [
        ([kept("a")], WIDE, None),
        ([kept("a"), kept("b")], WIDE, None),
        ([kept("a", "end")], WIDE, "answered"),
        ([kept("a", "limit")], WIDE, "step_limit"),
        ([kept("a", tokens=1000)], WIDE, "max_tokens"),
        ([kept("a", tokens=1001)], WIDE, "max_tokens"),
        ([kept("a", tokens=999)], WIDE, None),
        ([kept("a", tokens=500), kept("b", tokens=500)], WIDE, "max_tokens"),
        ([kept("a"), kept("b")], Limits(max_steps=2), "max_steps"),
        ([kept("a"), kept("b")], Limits(max_steps=3), None),
        ([kept("a"), kept("a"), kept("a")], WIDE, "loop"),
        ([kept("a"), kept("a")], WIDE, None),
        ([kept("b"), kept("a"), kept("a"), kept("a")], WIDE, "loop"),
        ([kept("a"), kept("a"), kept("b"), kept("a")], WIDE, None),
        ([kept("a"), kept(" a "), kept("a\n")], WIDE, "loop"),
        ([kept(""), kept(""), kept("")], WIDE, "empty_steps"),
        ([kept(""), kept("  "), kept("\n")], WIDE, "empty_steps"),
        ([kept(""), kept("")], WIDE, None),
        ([kept(""), kept("a"), kept("")], WIDE, None),
        ([kept("a"), kept("a")], Limits(repeats=2), "loop"),
    ],
)
def test_a_problem_ends_at_its_first_reason(
    steps: list[StepRecord], limits: Limits, reason: FinishReason | None
) -> None:
    assert finish_reason(steps, limits) == reason


@pytest.mark.parametrize(
    ("steps", "limits", "reason"),
    [
        ([kept("a", "end", 1000)], Limits(max_steps=1, max_tokens=1000), "answered"),
        ([kept("a", "limit", 1000)], Limits(max_steps=1, max_tokens=1000), "max_tokens"),
        ([kept("a", tokens=1000)], Limits(max_steps=1, max_tokens=1000), "max_tokens"),
        ([kept("a"), kept("a", "limit")], Limits(max_steps=2, repeats=2), "step_limit"),
        ([kept("a"), kept("a")], Limits(max_steps=2, repeats=2), "loop"),
        ([kept(""), kept("")], Limits(max_steps=2, repeats=2), "empty_steps"),
    ],
)
def test_of_several_reasons_the_one_nearest_to_the_answer_is_told(
    steps: list[StepRecord], limits: Limits, reason: FinishReason
) -> None:
    assert finish_reason(steps, limits) == reason


def test_only_kept_candidates_count_towards_the_end() -> None:
    dropped = candidate("a", "end", 1000)
    record = StepRecord(candidates=(dropped, candidate("b", author="target")), chosen=1)
    assert finish_reason([record], WIDE) is None


@pytest.mark.parametrize(
    ("step_tokens", "max_tokens", "used", "left"),
    [(100, 1000, [], 100), (100, 1000, [10, 20], 100), (100, 110, [10, 20], 80), (100, 31, [10, 20], 1)],
)
def test_a_step_may_take_what_its_own_and_the_problems_limit_leave(
    step_tokens: int, max_tokens: int, used: list[int], left: int
) -> None:
    task = msgspec.structs.replace(TASK, limits=Limits(step_tokens=step_tokens, max_tokens=max_tokens))
    assert next_context(task, task.transcript, [kept("a", tokens=tokens) for tokens in used]).max_tokens == left


def test_the_next_context_stands_after_the_kept_steps() -> None:
    transcript = Transcript("question", (Step("a", "draft"), Step("b", "target")))
    context = next_context(TASK, transcript, [kept("a"), kept("b")])
    assert (context.task, context.step, context.transcript) == (TASK, 2, transcript)


def test_an_escalated_step_keeps_the_target_and_records_the_rejected_draft() -> None:
    draft, target = candidate("a"), candidate("b", author="target")
    record = regenerated_record(draft, (target,))
    assert (record.candidates, record.kept, record.verdict) == ((draft, target), target, "escalate")


def test_a_step_that_the_target_writes_alone_has_no_verdict() -> None:
    target = candidate("b", author="target")
    record = regenerated_record(None, (target,))
    assert (record.candidates, record.kept, record.verdict) == ((target,), target, None)


@pytest.mark.parametrize(("verdict", "text"), [("keep_draft", "a"), ("keep_target", "b")])
def test_a_chosen_step_keeps_the_candidate_of_its_verdict(verdict: Verdict, text: str) -> None:
    draft, targets = candidate("a"), (candidate("b", author="target"), candidate("c", author="target"))
    record = chosen_record(verdict, draft, targets)
    assert (record.candidates, record.kept.text, record.verdict) == ((draft, *targets), text, verdict)


def test_a_draft_kept_alone_is_recorded_alone() -> None:
    record = chosen_record("keep_draft", candidate("a"), ())
    assert (len(record.candidates), record.kept.text) == (1, "a")
