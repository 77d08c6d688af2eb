"""Training rows: what a generate run knows of each step, for training a router."""

from collections.abc import Iterator

from protocols.records import Record, Solution, Step


class Row(Record, frozen=True):
    """One step of a generate run, for training a router.

    ``history`` are the kept steps before it, each with its author; the scores are process rewards in [0, 1].
    ``sample`` is the number of the decoding, where each problem is decoded several times.
    The advantage of the target is the mean of ``target_scores`` minus ``draft_score``.
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

    @property
    def advantage(self) -> float:
        return sum(self.target_scores) / len(self.target_scores) - self.draft_score


def training_rows(solution: Solution) -> Iterator[Row]:
    """The steps of a generate run's solution whose candidates were all scored."""
    history: tuple[Step, ...] = ()
    for index, record in enumerate(solution.steps):
        scores = [target.score for target in record.targets if target.score is not None]
        all_scored = bool(scores) and len(scores) == len(record.targets)
        if record.draft is not None and record.draft.score is not None and all_scored:
            yield Row(
                problem=solution.problem,
                question=solution.question,
                step=index,
                history=history,
                draft=record.draft.text,
                draft_score=record.draft.score,
                targets=tuple(target.text for target in record.targets),
                target_scores=tuple(scores),
                sample=solution.sample,
            )
        history = (*history, Step(text=record.kept.text, author=record.kept.author))
