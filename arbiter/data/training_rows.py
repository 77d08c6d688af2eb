"""Training rows: what a generate run knows of each step. ``docs/how-to/collect-rows.md`` has the format."""

from collections.abc import Iterator
from typing import Literal

from arbiter.protocols.records import Author, Record, Solution, Step

VERSION = 2
"""Of the rows' format. Version 1 had neither tokens nor ``confidence``, ``kept``, ``source`` and ``split``."""

Split = Literal["train", "validation", "test"]


class TrainingRow(Record, frozen=True):
    """One step of a generate run, for training and evaluating a router.

    ``history`` are the kept steps before it, each with its author; the scores are process rewards in [0, 1].
    ``targets`` are the target's samples, of which the first is the candidate that the run chose from; where there are
    several targets, ``target_names`` says for each sample whose it is (empty: there is one target).
    ``draft_tokens`` and ``target_tokens`` are completion tokens. ``confidence`` is the draft's own in its step, in
    (0, 1] (None: it was not asked for), and ``kept`` the author of the step that the run went on with.
    ``sample`` is the number of the decoding, where each problem is decoded several times. ``source`` is the problem's
    stratum, ``split`` the part of the data that all rows of the problem belong to.
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
        """Δ = mean over the target's samples of h(x, z_t) − h(x, z_d), in [-1, 1]."""
        return sum(self.target_scores) / len(self.target_scores) - self.draft_score


def training_rows(solution: Solution) -> Iterator[TrainingRow]:
    """The steps of a generate run's solution whose candidates were all scored."""
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
        history = (*history, Step(text=record.kept.text, author=record.kept.author))
