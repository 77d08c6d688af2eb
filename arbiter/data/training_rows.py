"""Training rows: what a generate run records for each step. ``docs/how-to/collect-rows.md`` describes the format."""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from arbiter.protocols.records import Author, Record, Solution, Step

VERSION = 2
"""The version of the format. Version 1 lacked tokens, ``confidence``, ``kept``, ``source`` and ``split``."""

Split = Literal["train", "validation", "test"]


class TrainingRow(Record, frozen=True):
    """One step of a generate run, for training and evaluating a router.

    - ``history``: the kept steps before this one, each with its author.
    - ``draft_score``, ``target_scores``: process rewards in [0, 1].
    - ``targets``: the target's candidates. The run chose between the draft and the first of them.
    - ``target_names``: the name of the target that wrote each candidate; empty with a single target.
    - ``draft_tokens``, ``target_tokens``: completion tokens.
    - ``confidence``: the draft's confidence in its step, in (0, 1]; None if it was not requested.
    - ``kept``: the author of the step that the run kept.
    - ``sample``: the number of the sample, where a problem has several.
    - ``source``: the problem's stratum.
    - ``split``: the part of the data that all rows of the problem belong to.
    """

    problem: str
    question: str
    step: int
    history: tuple[Step, ...]
    draft: str
    draft_score: float
    targets: tuple[str, ...]
    target_scores: tuple[float, ...]
    sample: int = 0
    version: int = 1
    kept: Author | None = None
    draft_tokens: int | None = None
    target_tokens: tuple[int, ...] = ()
    target_names: tuple[str, ...] = ()
    confidence: float | None = None
    source: str = ""
    split: Split = "train"

    @property
    def advantage(self) -> float:
        """Return the advantage Δ: the mean score of the target's candidates minus the draft's, in [-1, 1]."""
        return sum(self.target_scores) / len(self.target_scores) - self.draft_score


class StepValue(Record, frozen=True):
    """What a step is worth for the answer, from rollouts (``arbiter collect --rollouts``).

    ``kept`` and ``replaced`` in [0, 1] are the shares of right answers if the draft is kept, and if the target's first
    candidate replaces it, over ``rollouts`` of each. The draft alone writes all further steps.
    """

    problem: str
    sample: int
    step: int
    kept: float
    replaced: float
    rollouts: int


def answer_rows(rows: Iterable[TrainingRow], values: Iterable[StepValue]) -> list[TrainingRow]:
    """Return the rows that have values, with these in place of the process rewards: Δ is what the answer gains."""
    found = {(value.problem, value.sample, value.step): value for value in values}
    return [
        msgspec.structs.replace(
            row,
            draft_score=value.kept,
            targets=row.targets[:1],
            target_scores=(value.replaced,),
            target_tokens=row.target_tokens[:1],
        )
        for row in rows
        if (value := found.get((row.problem, row.sample, row.step))) is not None
    ]


def training_rows(solution: Solution) -> Iterator[TrainingRow]:
    """Yield a row for each step of a generate run's solution whose candidates were all scored."""
    history: tuple[Step, ...] = ()
    for index, record in enumerate(solution.steps):
        draft, targets = record.draft, record.targets
        scores = [target.score for target in targets if target.score is not None]
        all_scored = bool(scores) and len(scores) == len(targets)
        if draft is not None and draft.score is not None and all_scored:
            yield TrainingRow(
                problem=solution.problem,
                question=solution.question,
                step=index,
                history=history,
                draft=draft.text,
                draft_score=draft.score,
                targets=tuple(target.text for target in targets),
                target_scores=tuple(scores),
                sample=solution.sample,
                version=VERSION,
                kept=record.kept.author,
                draft_tokens=draft.usage.completion_tokens,
                target_names=tuple(target.target for target in targets) if any(one.target for one in targets) else (),
                confidence=draft.confidence,
                target_tokens=tuple(target.usage.completion_tokens for target in targets),
            )
        history = (*history, Step(record.kept.text, record.kept.author, overrun=record.kept.overrun))
