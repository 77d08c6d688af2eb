"""The index of one run: a table of its problems in SQLite, which filters and sorts without holding them in memory."""

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from arbiter.log.history import Key
from arbiter.protocols.errors import RequestError
from arbiter.protocols.records import Record
from arbiter.view.filters import CONTAINS, FilterName, Values, condition
from arbiter.view.problem_rows import COLUMNS, NAMES, SEARCHED, ProblemRow

Row = dict[str, Any]
"""A row as values for JSON, by column."""

_LONGEST = {**dict.fromkeys(("question", "expected", "answer", "reason", "error"), 500), "authors": 200}
"""The number of characters of a text in a list, by column. SQL would cut a text at its first NUL."""

_INNER = (
    *("text", "digests", "decisions", "lowest_score", "highest_score"),
    *("written_draft", "written_target", "again_draft", "again_target", "again_target_calls"),
)
_LISTED = ", ".join(f'"{name}"' for name in COLUMNS if name not in _INNER)
_SET = ", ".join(f'"{name}" = excluded."{name}"' for name in COLUMNS if name not in ("id", "sample"))
_PLACES = ", ".join("?" * (len(COLUMNS) + 1))
_QUOTED = ", ".join(f'"{name}"' for name in COLUMNS)
_UPSERT = f"INSERT INTO rows (row, {_QUOTED}) VALUES ({_PLACES}) ON CONFLICT (id, sample) DO UPDATE SET {_SET}"


class Question(NamedTuple):
    """Which rows are wanted, in which order: those that fit the expression ``filter`` and contain ``text``."""

    filter: str = ""
    text: str = ""
    sort: str = "row"
    offset: int = 0
    limit: int = 100


class IndexState(Record, frozen=True):
    """How far an index is. ``error`` says what is damaged after its rows."""

    complete: bool
    rows: int
    share: float
    error: str | None = None


class Statement(NamedTuple):
    """The part of a query after FROM that chooses rows, its order, and its parameters."""

    where: str
    values: Values
    order: str


def statement(question: Question, names: Mapping[str, FilterName], searched: Iterable[str], first: str) -> Statement:
    """Return SQL for ``question``; ``first`` is the column of the default order.

    Raises ``FilterError`` for a wrong expression, and ``RequestError`` for an unknown order.
    """
    parts, values = list[str](), list[str | float]()
    if question.filter.strip():
        sql, given = condition(question.filter, names)
        parts.append(sql)
        values += given
    if question.text:
        found = [f"coalesce({CONTAINS}(?, {column}), 0)" for column in searched]
        parts.append(f"({' OR '.join(found)})")
        values += [question.text] * len(found)
    name, downward = question.sort.removeprefix("-"), "DESC" if question.sort.startswith("-") else "ASC"
    if name != "row" and name not in names:
        known = ", ".join(names)
        message = f"sort={question.sort}: sort by row, or by one of {known}; with a - before it, the largest come first"
        raise RequestError(message, code="bad_parameter")
    column = first if name == "row" else names[name].sql
    return Statement(" AND ".join(parts) or "1", tuple(values), f"({column}) IS NULL, {column} {downward}, {first}")


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to an index that several threads may use, one at a time."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.create_function(CONTAINS, 2, contains, deterministic=True)
    return connection


class RowIndex:
    """The table of one run, in the file ``path``. Its methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection = connect(path)
        self._connection.executescript(
            "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;"  # a copy that another start makes again
            f"CREATE TABLE IF NOT EXISTS rows (row INTEGER PRIMARY KEY, {_QUOTED}, UNIQUE (id, sample));"
            "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value BLOB)"
        )

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __del__(self) -> None:
        """Close an index that was forgotten while a request still read it."""
        self._connection.close()

    def write(self, rows: Mapping[int, ProblemRow], about: Mapping[str, object]) -> None:
        """Store rows by their numbers, and values that JSON can express by their names, all or none of them."""
        with self._lock:
            self._connection.execute("BEGIN")
            self._connection.executemany(_UPSERT, ((row, *values) for row, values in rows.items()))
            stored = [(name, msgspec.json.encode(value)) for name, value in about.items()]
            self._connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", stored)
            self._connection.execute("COMMIT")

    def about(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        """Return a stored value; None if there is none."""
        found = self._all("SELECT value FROM about WHERE name = ?", (name,))
        return msgspec.json.decode(found[0][0]) if found else None

    def whole(self, key: Key) -> tuple[int, ProblemRow] | None:
        """Return the number and all columns of a row; None if there is none."""
        found = self._all(f"SELECT row, {_QUOTED} FROM rows WHERE id = ? AND sample = ?", key)
        return (found[0][0], ProblemRow(*found[0][1:])) if found else None

    def row_of(self, key: Key) -> int | None:
        """Return the number of a problem's row; None if there is none."""
        found = self._all("SELECT row FROM rows WHERE id = ? AND sample = ?", key)
        return found[0][0] if found else None

    def key_of(self, row: int) -> Key | None:
        """Return the problem of a row; None if there is no such row."""
        found = self._all("SELECT id, sample FROM rows WHERE row = ?", (row,))
        return (found[0][0], found[0][1]) if found else None

    def neighbours(self, row: int) -> tuple[int | None, int | None]:
        """Return the rows before and after a row."""
        before = self._all("SELECT max(row) FROM rows WHERE row < ?", (row,))
        after = self._all("SELECT min(row) FROM rows WHERE row > ?", (row,))
        return before[0][0], after[0][0]

    def samples(self, problem: str) -> list[Row]:
        """Return the rows of a problem's samples: their numbers, and which sample each is."""
        found = self._all("SELECT row, sample FROM rows WHERE id = ? ORDER BY sample", (problem,))
        return [dict(row) for row in found]

    def page(self, question: Question) -> tuple[int, int, list[Row]]:
        """Return how many rows there are, how many fit ``question``, and those of its page.

        Raises ``FilterError`` and ``RequestError`` as ``statement`` does.
        """
        where, values, order = statement(question, NAMES, SEARCHED, "row")
        total = self._all("SELECT count(*) FROM rows", ())[0][0]
        matching = total if where == "1" else self._all(f"SELECT count(*) FROM rows WHERE {where}", values)[0][0]
        found = self._all(
            f"SELECT row, {_LISTED} FROM rows WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",
            (*values, question.limit, question.offset),
        )
        return total, matching, [_listed(row) for row in found]

    def columns(self, *names: str) -> list[Sequence[Any]]:
        """Return some columns of all rows, in the order of the rows."""
        quoted = ", ".join(f'"{name}"' for name in names)
        return [tuple(row) for row in self._all(f"SELECT {quoted} FROM rows ORDER BY row", ())]

    def count(self) -> int:
        return self._all("SELECT count(*) FROM rows", ())[0][0]

    def _all(self, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()


def shortened(column: str, value: object) -> object:
    """Return a value as a list shows it."""
    return value[: _LONGEST[column]] if isinstance(value, str) and column in _LONGEST else value


def _listed(row: sqlite3.Row) -> Row:
    values = {name: shortened(name, value) for name, value in dict(row).items()}
    return {**values, "right": None if values["right"] is None else bool(values["right"])}


def contains(part: str | None, text: str | None) -> bool | None:
    """Return whether ``text`` has ``part``, in any case; None if one of them is unknown."""
    return None if part is None or text is None else part.casefold() in text.casefold()
