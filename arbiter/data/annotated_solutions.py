"""Solutions whose first wrong step is known, for evaluating reward models and judges."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, cast

from arbiter.data.champ import CHAMP, champ_solutions
from arbiter.data.file_rows import DataRow
from arbiter.data.loading import source_rows
from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Record

_QUESTIONS = ("problem", "question")


class AnnotatedSolution(Record, frozen=True):
    """A solution in steps. ``wrong`` is the index of the first wrong step; None if all steps are right."""

    id: str
    question: str
    steps: tuple[str, ...]
    wrong: int | None


def annotated_solutions(source: str, limit: int | None, separator: str) -> list[AnnotatedSolution]:
    """Return the first ``limit`` annotated solutions of ``source``. Without a limit: all.

    ``source`` is ``champ``, or data of the shape of ProcessBench (a file, a folder or a data set of the hub): rows with
    ``problem``, ``steps`` (a list of texts) and ``label``, the index of the first wrong step, or -1. ``separator``
    divides the solutions of CHAMP into steps. Raises ``DataError`` that names the row.
    """
    if source == CHAMP:
        found: Iterable[AnnotatedSolution] = (
            _with_position(name, question, text, start, separator) for name, question, text, start in champ_solutions()
        )
    else:
        found = map(_of_row, source_rows(source, _QUESTIONS))
    solutions = list(itertools.islice(found, limit))
    if not solutions:
        raise DataError(f"{source} contains no solution")
    return solutions


def _with_position(name: str, question: str, text: str, start: int | None, separator: str) -> AnnotatedSolution:
    """Return a solution whose first wrong step is the one that holds the position ``start``."""
    steps: list[str] = []
    wrong, end = None, 0
    for part in text.split(separator):
        end += len(part) + len(separator)
        if part.strip():
            if wrong is None and start is not None and start < end:
                wrong = len(steps)
            steps.append(part)
    return AnnotatedSolution(name, question, tuple(steps), wrong)


def _of_row(row: DataRow) -> AnnotatedSolution:
    fields = row.fields
    question = next((fields[name] for name in _QUESTIONS if isinstance(fields.get(name), str)), None)
    steps, label = fields.get("steps"), fields.get("label")
    texts = cast("list[object]", steps) if isinstance(steps, list) else []
    if question is None or not texts or not all(isinstance(text, str) for text in texts):
        raise _wrong(row, "needs 'problem' (a text) and 'steps' (a list of texts)")
    if not isinstance(label, int) or isinstance(label, bool) or not -1 <= label < len(texts):
        raise _wrong(row, f"needs 'label', the index of the first wrong step (0 to {len(texts) - 1}), or -1")
    name = str(fields.get("id", row.number))
    return AnnotatedSolution(name, question, tuple(cast("Sequence[str]", texts)), None if label < 0 else label)


def _wrong(row: DataRow, what: str) -> DataError:
    present: dict[str, Any] = row.fields
    return DataError(f"{row.place}: an annotated solution {what}; fields here: {', '.join(present) or 'none'}")
