"""Load problems from the pocket world, a JSONL file or the Hugging Face hub."""

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from arbiter.config.run_tables import USUAL, Fields
from arbiter.data.hub import BENCHMARKS, HubData, hub_data, hub_rows
from arbiter.data.problems import Problem, problem_of
from arbiter.pocket import world
from arbiter.protocols.errors import DataError

__all__ = ["Fields", "Problem", "load_problems"]

POCKET_SEED = 1
_POCKET: dict[str, world.Split] = {"pocket": "test", "pocket-train": "train"}
LONGEST_LINE = 16 << 20
_SUFFIXES = {".jsonl", ".json", ".ndjson", ".txt", ".csv", ".parquet"}


def load_problems(
    source: str,
    limit: int | None = None,
    *,
    fields: Fields = USUAL,
    subset: str | None = None,
    split: str | None = None,
) -> list[Problem]:
    """Return the first ``limit`` problems of ``source``. Without a limit: all, or 200 of the pocket world.

    ``source`` is one of

    - ``pocket``, ``pocket:SEED``: problems that no pocket model was trained on, whatever the seed
    - ``pocket-train:SEED``: problems that the pocket models may be trained on
    - the path of a JSONL file, one object per line
    - ``math500``, ``olympiadbench``, or a data set of the Hugging Face hub: ``OWNER/NAME``,
      ``OWNER/NAME:SPLIT``, ``OWNER/NAME:SUBSET:SPLIT``

    The usual field names are recognized (see ``arbiter.data.problems``); ``fields`` names others. ``subset`` and
    ``split`` replace those in the name of a data set. Raises ``DataError`` that names the file and the line.
    """
    name, _, seed = source.partition(":")
    if name in _POCKET:
        return _pocket(name, seed or str(POCKET_SEED), limit or 200)
    data = hub_data(source, subset, split)
    is_file = Path(source).suffix in _SUFFIXES or (source.lower() not in BENCHMARKS and os.path.lexists(source))
    rows = _file_rows(Path(source)) if data is None or is_file else _hub_rows(data, source)
    problems = list(itertools.islice(_problems(rows, fields), limit))
    if not problems:
        raise DataError(f"{source} contains no problem")
    return problems


Row = tuple[dict[str, Any], str, str]
"""The fields, the location for error messages, and the number that is the id if the row has none."""


def _problems(rows: Iterable[Row], fields: Fields) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for row, place, number in rows:
        problem = problem_of(row, place, number, fields)
        if problem.id in seen:
            raise DataError(
                f"{place}: the id {problem.id!r} is already used in {seen[problem.id]}: give each problem its own id"
            )
        seen[problem.id] = place
        yield problem


def _pocket(name: str, seed: str, limit: int) -> list[Problem]:
    try:
        drawn = itertools.islice(world.problems(int(seed), _POCKET[name]), limit)
    except ValueError as error:
        raise DataError(f"{name}:{seed}: the seed must be a whole number, as in {name}:1") from error
    return [
        Problem(f"{name}-{seed}-{index}", problem.question, str(problem.answer)) for index, problem in enumerate(drawn)
    ]


def _hub_rows(data: HubData, source: str) -> Iterator[Row]:
    for number, row in enumerate(hub_rows(data), start=1):
        yield dict(row), f"{source}, row {number}", str(number)


def _file_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            for number, line in _lines(file, path):
                if line.strip():
                    place = f"{path}, line {number}"
                    yield _decoded(line, place), place, str(number)
    except FileNotFoundError as error:
        known = f"known names: pocket, {', '.join(BENCHMARKS)}, and OWNER/NAME of the Hugging Face hub"
        raise DataError(f"cannot read the problems in {str(path)!r}: {error.strerror}; {known}") from error
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read the problems in {str(path)!r}: {reason}; it must be a JSONL file") from error


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number. Refuses a line that is too long before it fills the memory."""
    for number in itertools.count(1):
        line = file.readline(LONGEST_LINE)
        if not line:
            return
        if len(line) == LONGEST_LINE:
            raise DataError(
                f"{path}, line {number}: longer than {LONGEST_LINE >> 20} MiB; a JSONL file has one object per line"
            )
        yield number, line


def _decoded(line: bytes, place: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        a_list = line.lstrip().startswith(b"[")
        hint = "; write a JSON list as one object per line (jq -c '.[]' does it)" if a_list else ""
        raise DataError(f"{place}: not a JSON object: {error}{hint}") from error
