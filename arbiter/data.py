"""Problems to solve: from the pocket world, or from a JSONL file."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from arbiter.pocket import world
from protocols.errors import DataError

POCKET_SEED = 1
_QUESTION_FIELDS = ("question", "problem")
_ANSWER_FIELDS = ("answer", "final_answer")
_ID_FIELDS = ("id", "unique_id")


class Problem(msgspec.Struct, frozen=True):
    """A question, and the answer to grade against, if there is one. ``id`` is unique within its source."""

    id: str
    question: str
    answer: str | None = None


def load_problems(source: str, limit: int | None) -> list[Problem]:
    """The first ``limit`` problems of ``source`` (all of a file's without a limit, 200 of the pocket world's).

    ``source`` is ``pocket``, ``pocket:SEED`` (problems that no pocket model was trained on, whatever the
    seed) or the path of a JSONL file, one object a line. Raises ``DataError`` naming the file and the line.
    """
    name, _, seed = source.partition(":")
    if name == "pocket":
        return _pocket(seed or str(POCKET_SEED), limit or 200)
    problems = list(itertools.islice(_read(Path(source)), limit))
    if not problems:
        raise DataError(f"{source} holds no problem")
    return problems


def _pocket(seed: str, limit: int) -> list[Problem]:
    try:
        drawn = itertools.islice(world.problems(int(seed), "test"), limit)
    except ValueError as error:
        raise DataError(f"pocket:{seed}: the seed must be a whole number, as in pocket:1") from error
    return [
        Problem(id=f"pocket-{seed}-{index}", question=problem.question, answer=str(problem.answer))
        for index, problem in enumerate(drawn)
    ]


def _read(path: Path) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    place = f"{path}, line {number}"
                    problem = _parsed(line, place, default_id=str(number))
                    if problem.id in seen:
                        raise DataError(f"{place}: the id {problem.id!r} is that of line {seen[problem.id]} as well")
                    seen[problem.id] = number
                    yield problem
    except OSError as error:
        raise DataError(f"cannot read the problems in {str(path)!r}: {error.strerror}") from error


def _parsed(line: bytes, place: str, default_id: str) -> Problem:
    try:
        row = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{place}: not a JSON object: {error}") from error
    question = _first(row, _QUESTION_FIELDS)
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{place}: there is no question; it is looked for in {' and '.join(_QUESTION_FIELDS)}")
    answer, given_id = _first(row, _ANSWER_FIELDS), _first(row, _ID_FIELDS)
    return Problem(
        id=default_id if given_id is None else str(given_id),
        question=question,
        answer=None if answer is None else _answer_text(answer),
    )


def _answer_text(answer: object) -> str:
    """OlympiadBench gives its answers in a list, most often of one."""
    if isinstance(answer, list):
        return ", ".join(str(part) for part in cast("list[object]", answer))
    return str(answer)


def _first(row: dict[str, Any], fields: tuple[str, ...]) -> object:
    return next((row[field] for field in fields if row.get(field) is not None), None)
