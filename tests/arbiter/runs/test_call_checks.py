"""The check of tool calls is counted over the kept steps of a run."""

from arbiter.protocols.records import Candidate, StepRecord, Usage
from arbiter.runs.call_checks import CallChecks, call_checks


def draft(valid: bool | None) -> Candidate:
    return Candidate("draft", "text", "end", Usage(), 0.0, valid=valid)


TARGET = Candidate("target", "text", "end", Usage(), 0.0, valid=True)


def test_a_run_counts_what_the_check_forced_and_let_pass() -> None:
    steps = [
        StepRecord((draft(None),), 0, "keep_draft"),
        StepRecord((draft(True),), 0, "keep_draft"),
        StepRecord((draft(True), TARGET), 1, "escalate"),
        StepRecord((draft(False), TARGET), 1, "escalate"),
        StepRecord((TARGET,), 0),
    ]
    assert call_checks(steps) == CallChecks(checked=3, valid=2, kept=1, forced=1)


def test_a_draft_that_breaks_the_rules_and_is_kept_forced_no_escalation() -> None:
    cut = StepRecord((draft(False),), 0)  # a call that a token limit cut, in a run of the draft alone
    assert call_checks([cut]) == CallChecks(checked=1, valid=0, kept=0, forced=0)
