"""Read dumps of step pairs as training rows. The layout is that of the published Arbitrage program's ``generate`` runs.

A dump is a JSONL file with one step per line. These are its fields and their other names; case does not matter.

========================  ==================================================================================
``problem``               the question; also ``question``
``idx``                   the problem's number in its file; also ``id``, ``problem_id``; else the question is the id
``prev_responses``        the kept steps; also ``history``, ``steps``. Each is ``[text, author]`` (author 1 is the
                          draft, 2 the target), or ``{"text": …, "author": …}``, or a text, which is the draft's
``draft_response``        the draft's step; also ``draft``
``target_response``       the target's step; also ``target``
``step_reward``           the process reward of the draft's step, or a list of rewards whose last is taken; also
                          ``draft_reward``, ``draft_score``
``target_step_reward``    the same for the target's step, the mean where there are several samples; also
                          ``target_reward``, ``target_score``
``source``                the stratum, if there is one
========================  ==================================================================================

``--fields`` maps other names.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from arbiter.data.training_rows import VERSION, TrainingRow
from arbiter.protocols.errors import ConfigError, DataError
from arbiter.protocols.records import Author, Step

_NAMES: dict[str, tuple[str, ...]] = {
    "problem": ("problem", "question"),
    "idx": ("idx", "id", "problem_id"),
    "prev_responses": ("prev_responses", "history", "steps"),
    "draft_response": ("draft_response", "draft"),
    "target_response": ("target_response", "target"),
    "step_reward": ("step_reward", "draft_reward", "draft_score"),
    "target_step_reward": ("target_step_reward", "target_reward", "target_score"),
    "source": ("source",),
}
_OPTIONAL = {"idx", "source"}
_AUTHORS: dict[object, Author] = {1: "draft", 2: "target", "draft": "draft", "target": "target"}


def field_names(mapping: str) -> dict[str, str]:
    """Parse the value of ``--fields``, such as ``problem=text,draft_response=small``.

    Raises ``ConfigError`` that names the part which is not FIELD=NAME.
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in mapping.split(","))):
        name, given, column = part.partition("=")
        if name.strip() not in _NAMES or not given or not column.strip():
            raise ConfigError(f"--fields: {part!r} is not FIELD=NAME; the fields are {', '.join(_NAMES)}")
        found[name.strip()] = column.strip()
    return found


def published_rows(path: Path, fields: Mapping[str, str], separator: str = "\n\n") -> Iterator[TrainingRow]:
    """Yield the rows of a dump. Raises ``DataError`` that names the file, the line and the field."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _Line(line, f"{path}, line {number}", fields).row(separator)
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.strerror}") from error


class _Line:
    """A line of a dump, with its location for error messages."""

    def __init__(self, line: bytes, place: str, fields: Mapping[str, str]) -> None:
        try:
            tree = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{place}: not a JSON object: {error}") from error
        self._place = place
        self._fields = fields
        self._tree = {key.lower(): value for key, value in tree.items()}

    def row(self, separator: str) -> TrainingRow:
        question = self._text("problem")
        number, source = self._value("idx"), self._value("source")
        history = self._history(separator)
        return TrainingRow(
            problem=question if number is None else str(number),
            question=question,
            step=len(history),
            history=history,
            draft=self._text("draft_response").removesuffix(separator),
            draft_score=self._score("step_reward"),
            targets=(self._text("target_response").removesuffix(separator),),
            target_scores=(self._score("target_step_reward"),),
            version=VERSION,
            source="" if source is None else str(source),
        )

    def _value(self, field: str) -> object:
        names = (self._fields[field].lower(),) if field in self._fields else _NAMES[field]
        for name in names:
            if self._tree.get(name) is not None:
                return self._tree[name]
        if field in _OPTIONAL:
            return None
        present = ", ".join(self._tree) or "none"
        raise DataError(
            f"{self._place}: there is no field {' or '.join(names)}; fields here: {present}. "
            f"Map it: --fields {field}=NAME"
        )

    def _text(self, field: str) -> str:
        value = self._value(field)
        if not isinstance(value, str):
            raise self._wrong(field, "a text")
        return value

    def _score(self, field: str) -> float:
        value = self._value(field)
        values = cast("list[object]", value) if isinstance(value, list) else [value]
        last = values[-1] if values else None
        if isinstance(last, bool) or not isinstance(last, int | float) or not 0 <= last <= 1:
            raise self._wrong(field, "a number from 0 to 1, or a list that ends with one")
        return float(last)

    def _history(self, separator: str) -> tuple[Step, ...]:
        steps = self._value("prev_responses")
        if not isinstance(steps, list):
            raise self._wrong("prev_responses", "a list")
        return tuple(self._step(step, separator) for step in cast("list[object]", steps))

    def _step(self, step: object, separator: str) -> Step:
        match step:
            case str():
                text, author = step, "draft"
            case [str() as text, (int() | str()) as author]:
                pass
            case {"text": str() as text, "author": (int() | str()) as author}:
                pass
            case _:
                raise self._wrong("prev_responses", "a list of [text, author]")
        if author not in _AUTHORS:
            raise self._wrong("prev_responses", "a list of [text, author] with author 1 (draft) or 2 (target)")
        return Step(text.removesuffix(separator), _AUTHORS[author])

    def _wrong(self, field: str, expected: str) -> DataError:
        name = self._fields.get(field, field)
        return DataError(f"{self._place}: the field {name!r} must be {expected}")
