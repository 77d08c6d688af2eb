"""What the check of tool calls decided in a run: escalations that it forced, and calls that it let pass."""

from collections.abc import Iterable

from arbiter.protocols.records import Record, StepRecord


class CallChecks(Record, frozen=True):
    """The drafts of kept steps that were checked against the rules of their answers (``AnswerRules``).

    ``checked`` of them had a verdict. ``valid`` of these kept the rules, and ``kept`` of the valid ones were kept: the
    target was not needed. The target's step replaced ``forced`` drafts that broke the rules.
    """

    checked: int = 0
    valid: int = 0
    kept: int = 0
    forced: int = 0


def call_checks(steps: Iterable[StepRecord]) -> CallChecks:
    """Return the counts over ``steps``."""
    checked = [step for step in steps if step.draft is not None and step.draft.valid is not None]
    valid = [step for step in checked if step.draft is not None and step.draft.valid]
    kept = sum(step.kept.author == "draft" for step in valid)
    forced = sum(step.draft is not None and not step.draft.valid and step.kept.author == "target" for step in checked)
    return CallChecks(len(checked), len(valid), kept, forced)
