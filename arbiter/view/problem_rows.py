"""What the index of a run has of each problem, or of each of its samples: a row of plain values."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from arbiter.exports.contents import reference_text
from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import CallFailed, CallGenerated, Graded
from arbiter.protocols.records import Author, Model, StepRecord
from arbiter.replay.threshold_changes import recorded_decisions
from arbiter.view.filters import FilterName

_DIGEST = 8  # bytes for each step: enough to see whether two steps are equal

_NAMES = (
    FilterName("id", "text", "id of the problem", "id"),
    FilterName("sample", "number", "number of the sample, from 0", "sample"),
    FilterName("question", "text", "question", "question"),
    FilterName("expected", "text", "right answer", "expected"),
    FilterName("answer", "text", "given answer", "answer"),
    FilterName("grade", "text", "right, wrong, not graded, failed or unfinished", "grade"),
    FilterName("right", "boolean", "the answer is right", '"right" = 1'),
    FilterName("wrong", "boolean", "the answer is wrong", '"right" = 0'),
    FilterName("failed", "boolean", "a model or an actor failed", "grade = 'failed'"),
    FilterName("unfinished", "boolean", "the problem has no end in the log", "grade = 'unfinished'"),
    FilterName("reason", "text", "why the answer is wrong, or was not judged", "reason"),
    FilterName("finish", "text", "finish reason, as answered or max_steps", "finish"),
    FilterName("error", "text", "error of a failed problem", "error"),
    FilterName("text", "text", "all kept steps together", "text"),
    FilterName("steps", "number", "kept steps", "steps"),
    FilterName("accepted", "number", "kept steps that the draft wrote", "accepted"),
    FilterName("escalated", "number", "steps that were escalated", "escalated"),
    FilterName("tokens", "number", "tokens of the kept steps", "tokens"),
    FilterName("draft_tokens", "number", "tokens of kept steps of the draft", "draft_tokens"),
    FilterName("target_tokens", "number", "tokens of kept steps of the target", "target_tokens"),
    FilterName("lowest_score", "number", "lowest score of a draft", "lowest_score"),
    FilterName("highest_score", "number", "highest score of a draft", "highest_score"),
    FilterName("calls", "number", "requests to all models", "calls"),
    FilterName("target_calls", "number", "requests to the target", "target_calls"),
    FilterName("retries", "number", "failed attempts that were made again", "retries"),
    FilterName("failed_calls", "number", "requests that failed after all attempts", "failed_calls"),
    FilterName("started", "number", "seconds from the begin of the run to that of the problem", "started"),
    FilterName("seconds", "number", "seconds from the begin of the problem to its end", "seconds"),
)
NAMES = {name.name: name for name in _NAMES}
"""The names for expressions over the rows of a run."""

SEARCHED = ("id", "question", "expected", "answer", "reason", "error", "text")
"""The columns in which a text is searched."""


class ProblemRow(NamedTuple):
    """One row, in the order of the columns.

    ``written_draft`` and ``written_target`` count all tokens that a model wrote, kept or not. The columns ``again_``
    count what a replay would request again: no drafts ahead that were not used. ``digests`` has one digest for each
    kept step. ``decisions`` are ``RecordedDecisions`` in MessagePack; None for a problem without an end, and
    for a log whose policy is not known.
    """

    id: str
    sample: int
    question: str
    expected: str | None
    answer: str | None
    right: bool | None
    grade: str
    reason: str | None
    finish: str | None
    error: str | None
    steps: int
    accepted: int
    escalated: int
    tokens: int
    draft_tokens: int
    target_tokens: int
    lowest_score: float | None
    highest_score: float | None
    calls: int
    target_calls: int
    retries: int
    failed_calls: int
    started: float
    seconds: float | None
    authors: str
    text: str
    written_draft: int
    written_target: int
    again_draft: int
    again_target: int
    again_target_calls: int
    digests: bytes
    decisions: bytes | None


COLUMNS = ProblemRow._fields


def problem_row(problem: ProblemHistory, steps: Sequence[StepRecord]) -> ProblemRow:
    """Return the row of a problem with its kept ``steps``, without its grade."""
    calls, end = [*problem.calls.values()], problem.end
    counts = problem.request_counts()
    scores = [step.draft.score for step in steps if step.draft is not None and step.draft.score is not None]

    again = [call for name, call in problem.answers().items() if name in problem.reused or not call.is_ahead]

    def written(model: Model) -> int:
        return counts[model].usage.completion_tokens if model in counts else 0

    return ProblemRow(
        id=problem.key[0],
        sample=problem.key[1],
        question=problem.task.question,
        expected=None,
        answer=None,
        right=None,
        grade="unfinished" if end is None else "failed" if end.finish_reason == "failed" else "not graded",
        reason=None,
        finish=end and end.finish_reason,
        error=end and end.error,
        steps=len(steps),
        accepted=sum(step.kept.author == "draft" for step in steps),
        escalated=sum(step.verdict == "escalate" for step in steps),
        tokens=kept_tokens(steps, "draft") + kept_tokens(steps, "target"),
        draft_tokens=kept_tokens(steps, "draft"),
        target_tokens=kept_tokens(steps, "target"),
        lowest_score=min(scores, default=None),
        highest_score=max(scores, default=None),
        calls=len(calls),
        target_calls=counts["target"].requests if "target" in counts else 0,
        retries=sum(len(call.retries) for call in calls),
        failed_calls=sum(isinstance(call.outcome, CallFailed) for call in calls),
        started=problem.start.mono,
        seconds=end and end.seconds,
        authors="".join("D" if step.kept.author == "draft" else "T" for step in steps),
        text="\n".join(step.kept.text for step in steps),
        written_draft=written("draft"),
        written_target=written("target"),
        again_draft=_written(again, "draft"),
        again_target=_written(again, "target"),
        again_target_calls=sum(call.model == "target" for call in again),
        digests=b"".join(_digest(step.kept.text) for step in steps),
        decisions=_decisions(problem),
    )


def graded_row(row: ProblemRow, graded: Graded) -> ProblemRow:
    """Return ``row`` with a grade. A failed problem stays one."""
    verdict = {True: "right", False: "wrong", None: "not graded"}[graded.right]
    return row._replace(
        expected=reference_text(graded),
        answer=graded.answer,
        right=graded.right,
        grade=row.grade if row.grade == "failed" else verdict,
        reason=graded.reason,
    )


def kept_tokens(steps: Sequence[StepRecord], author: Author) -> int:
    """Return the tokens of the kept steps of ``author``."""
    return sum(step.kept.usage.completion_tokens for step in steps if step.kept.author == author)


def first_difference(digests_a: bytes, digests_b: bytes) -> int | None:
    """Return the first step whose digest differs, or that only one of both has; None if there is none."""
    if digests_a == digests_b:
        return None
    steps = min(len(digests_a), len(digests_b)) // _DIGEST
    places = (slice(step * _DIGEST, (step + 1) * _DIGEST) for step in range(steps))
    return next((step for step, place in enumerate(places) if digests_a[place] != digests_b[place]), steps)


def _written(calls: Sequence[CallHistory], model: Model) -> int:
    outcomes = (call.outcome for call in calls if call.model == model)
    return sum(outcome.at(0).cost.completion_tokens for outcome in outcomes if isinstance(outcome, CallGenerated))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST).digest()


def _decisions(problem: ProblemHistory) -> bytes | None:
    if problem.end is None:
        return None
    try:
        return msgspec.msgpack.encode(recorded_decisions(problem))
    except RunError:
        return None
