"""Read the training data: rows of a collection, and solutions with labelled steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from arbiter.data.training_rows import VERSION, Split, TrainingRow
from arbiter.log.checksums import of_line
from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Record
from arbiter.runs.remedies import written_again

ROWS = "rows.jsonl"

Kind = TypeVar("Kind", bound=msgspec.Struct)


class Solved(Record, frozen=True):
    """A solution with labelled steps, for training a process reward model.

    ``labels`` has a number for each of ``steps``, from 0 (wrong) to 1 (right).
    """

    question: str
    steps: tuple[str, ...]
    labels: tuple[Annotated[float, msgspec.Meta(ge=0, le=1)], ...]
    split: Split = "train"


def read_rows(path: Path) -> list[TrainingRow]:
    """Return the rows of a ``rows.jsonl``, or of a folder that contains one. Version 1 of the format is supported too.

    Raises ``DataError`` that names the file and the line.
    """
    file = path / ROWS if path.is_dir() else path
    rows: list[TrainingRow] = []
    for place, row in _lines(file, TrainingRow):
        if row.version > VERSION:
            raise DataError(
                f"{place}: its format has the version {row.version}, but the newest supported version is {VERSION}"
            )
        if not row.targets or len(row.targets) != len(row.target_scores):
            raise DataError(
                f"{place}: {len(row.targets)} targets, {len(row.target_scores)} target_scores; each target needs one"
            )
        if row.target_names and len(row.target_names) != len(row.targets):
            raise DataError(
                f"{place}: {len(row.targets)} targets, {len(row.target_names)} target_names; each target needs one"
            )
        rows.append(row)
    if not rows:
        raise DataError(f"{file} contains no row")
    return rows


def read_solved(path: Path) -> list[Solved]:
    """Return the labelled solutions of a JSONL file. Raises ``DataError`` that names file, line and field."""
    rows: list[Solved] = []
    for place, row in _lines(path, Solved):
        if not row.steps or len(row.steps) != len(row.labels):
            raise DataError(f"{place}: {len(row.steps)} steps, {len(row.labels)} labels; each step needs one")
        rows.append(row)
    if not rows:
        raise DataError(f"{path} contains no solution")
    return rows


def _lines(path: Path, kind: type[Kind]) -> Iterator[tuple[str, Kind]]:
    """Yield the location and the decoded content of each line."""
    decoder, place = msgspec.json.Decoder(kind), str(path)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    place = f"{path}, line {number}"
                    yield place, decoder.decode(of_line(line))
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.strerror}; give a JSONL file, or its folder") from error
    except ValueError as error:  # a wrong checksum, or no such row
        remedy = f"; {written_again(path.parent)}" if path.name == ROWS else ""
        raise DataError(f"{place}: {error}{remedy}") from error
