"""The record of a step."""

import pytest

from arbiter.actors.step_records import chosen_record, regenerated_record
from arbiter.protocols.records import (
    Author,
    Candidate,
    StopReason,
    Usage,
    Verdict,
)


def candidate(text: str, ending: StopReason = "separator", tokens: int = 10, author: Author = "draft") -> Candidate:
    return Candidate(author, text, ending, Usage(completion_tokens=tokens), 1.0)


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
