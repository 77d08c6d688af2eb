"""Export the tables of a run as Parquet files, for analysis (the extra ``parquet``).

The columns are those of ``Run.table``, with fixed types, so that the files of several runs can be read together.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from arbiter.exports.files import replacing
from arbiter.log.run import Run
from arbiter.log.table_rows import Row, problem_row, step_rows

PROBLEMS: Final = "problems.parquet"
STEPS: Final = "steps.parquet"

_PROBLEM_TYPES = {
    "problem": "string",
    "sample": "int64",
    "question": "string",
    "finish_reason": "string",
    "error": "string",
    "right": "bool",
    "answer": "string",
    "steps": "int64",
    "accepted": "int64",
    "escalated": "int64",
    "tokens": "int64",
    "target_calls": "int64",
    "started": "double",
    "seconds": "double",
}
RECORD_TYPES: Final = {
    "author": "string",
    "target": "string",
    "verdict": "string",
    "text": "string",
    "stop_reason": "string",
    "tokens": "int64",
    "draft_text": "string",
    "draft_score": "double",
    "draft_confidence": "double",
    "glimpse_confidence": "double",
    "target_text": "string",
    "target_score": "double",
    "audit_draft": "double",
    "audit_target": "double",
}
"""The columns of ``record_row``, with the names of their types in Arrow."""

_STEP_TYPES = {
    "problem": "string",
    "sample": "int64",
    "step": "int64",
    **RECORD_TYPES,
    "seconds": "double",
    "queue_seconds": "double",
    "draft_seconds": "double",
    "score_seconds": "double",
    "target_seconds": "double",
}


class GroupLimit(NamedTuple):
    """When a row group ends: the largest number of ``rows``, and the number of ``characters`` in their texts."""

    rows: int = 10_000
    characters: int = 8 << 20


USUAL_LIMIT: Final = GroupLimit()


def write_tables(run: Run, folder: Path, group: GroupLimit = USUAL_LIMIT) -> None:
    """Write ``problems.parquet`` (a row per problem or sample) and ``steps.parquet`` (a row per kept step).

    Both replace earlier files, when both are complete. A problem that was started again is there once, as it was
    started last. Memory holds one row group of each file, the open problems, and the ids and grades of all.

    Raises ``RunError`` if the log is damaged, ``ReportError`` if a file cannot be written.
    """
    with replacing(folder / PROBLEMS) as problem_file, replacing(folder / STEPS) as step_file:
        problems = _ParquetRows(problem_file, _PROBLEM_TYPES, run, group)
        steps = _ParquetRows(step_file, _STEP_TYPES, run, group)
        for problem, grade in run.latest_problems():
            problems.add([problem_row(problem, grade)])
            steps.add(step_rows(problem))
        problems.close()
        steps.close()


class _ParquetRows:
    """Rows on their way into a Parquet file. ``close`` completes the file, which is of no use before."""

    def __init__(self, file: BinaryIO, types: dict[str, str], run: Run, group: GroupLimit) -> None:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        fields: list[Any] = [(name, arrow.type_for_alias(alias)) for name, alias in types.items()]
        self._schema = arrow.schema(fields, metadata={"arbiter": _about(run)})
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._batch: Callable[..., Any] = arrow.RecordBatch.from_pylist
        self._group = group
        self._rows: list[Row] = []
        self._characters = 0

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._rows.append(row)
            self._characters += sum(len(value) for value in row.values() if isinstance(value, str))
            if len(self._rows) >= self._group.rows or self._characters >= self._group.characters:
                self._write()

    def close(self) -> None:
        if self._rows:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        self._writer.write_batch(self._batch(self._rows, schema=self._schema))
        self._rows.clear()
        self._characters = 0


def _about(run: Run) -> bytes:
    """Return the metadata of the files: which run the rows are of, as JSON."""
    started = run.started
    name = next(run.events()).run
    return msgspec.json.encode(
        {"run": name, "record": started.record, "identity": started.identity, "versions": started.versions}
    )
