"""Two runs of the same problems: which grades changed, and where the transcripts part.

The figures are those of ``arbiter diff``.
"""

import sqlite3
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from arbiter.log.identity import differences
from arbiter.log.run import Run
from arbiter.protocols.errors import RequestError
from arbiter.view.filters import FilterName
from arbiter.view.problem_rows import NAMES, first_difference
from arbiter.view.problem_view import problem_view
from arbiter.view.row_index import Question, RowIndex, connect, shortened, statement
from arbiter.view.word_diff import word_diff

Json = dict[str, Any]

_PARTS = "arbiter_parts"
_ENDED = "finish IS NOT NULL"
_PAIRS = (
    f"(SELECT * FROM a.rows WHERE {_ENDED}) AS a JOIN (SELECT * FROM b.rows WHERE {_ENDED}) AS b"
    " ON a.id = b.id AND a.sample = b.sample"
)
_CHANGE = (
    'CASE WHEN coalesce(a."right", 0) = coalesce(b."right", 0) THEN \'none\''
    " WHEN coalesce(a.\"right\", 0) THEN 'lost' ELSE 'gained' END"
)
_PARTS_SQL = f"{_PARTS}(a.digests, b.digests)"
_SHOWN = ("grade", "answer", "steps", "authors", "tokens", "seconds")
_OF_BOTH = ("id", "sample", "question", "expected")
_SEARCHED = (*(f"a.{name}" for name in _OF_BOTH if name != "sample"), "a.answer", "b.answer", "a.text", "b.text")


def _names() -> dict[str, FilterName]:
    names = [
        FilterName("change", "text", "gained or lost (right in B or A alone), or none", _CHANGE),
        FilterName("parts", "number", "first step at which the texts differ, from 0", _PARTS_SQL),
        *(FilterName(name, NAMES[name].type, NAMES[name].meaning, f"a.{name}") for name in _OF_BOTH),
    ]
    for side in "ab":
        for name in NAMES.values():
            if name.name not in _OF_BOTH:
                meaning, sql = f"{side.upper()}: {name.meaning}", f"{side}.{name.sql}"  # its column stands first
                names.append(FilterName(f"{side}_{name.name}", name.type, meaning, sql))
    return {name.name: name for name in names}


PAIR_NAMES = _names()
"""The names for expressions over pairs."""


class Side(NamedTuple):
    """One of the two runs: its log, and its index."""

    log: Path
    rows: RowIndex


def comparison(a: Side, b: Side) -> Json:
    """Return which problems both runs have, how many differ, and how many each answered right."""
    with _Pairs(a, b) as pairs:
        whole, same, both, only_a, only_b = pairs.one(
            f'SELECT count(*), sum(a.digests = b.digests), sum(a."right" = 1 AND b."right" = 1), '
            f"sum({_CHANGE} = 'lost'), sum({_CHANGE} = 'gained') FROM {_PAIRS}"
        )
        ended_a, ended_b = (pairs.one(f"SELECT count(*) FROM {side}.rows WHERE {_ENDED}")[0] for side in "ab")
    identities = [Run.open(side.log).started.identity for side in (a, b)]
    answers = {"both": both or 0, "only_a": only_a or 0, "only_b": only_b or 0}
    return {
        "identity": differences(identities[0], identities[1], ("in A", "in B")),
        "shared": whole,
        "only_a": ended_a - whole,
        "only_b": ended_b - whole,
        "same": same or 0,
        "different": whole - (same or 0),
        "answers": {**answers, "none": whole - sum(answers.values())},
        "filter_names": shown_names(PAIR_NAMES),
    }


def pair_page(a: Side, b: Side, question: Question) -> Json:
    """Return a page of pairs. Raises ``FilterError`` and ``RequestError`` as ``statement`` does."""
    where, values, order = statement(question, PAIR_NAMES, _SEARCHED, "a.row")
    columns = ", ".join(
        (
            *(f"a.{name} AS {name}" for name in _OF_BOTH),
            f"{_CHANGE} AS change, {_PARTS_SQL} AS parts",
            *(f"{side}.{name} AS {side}_{name}" for side in "ab" for name in ("row", *_SHOWN)),
        )
    )
    with _Pairs(a, b) as pairs:
        total = pairs.one(f"SELECT count(*) FROM {_PAIRS}")[0]
        matching = total if where == "1" else pairs.one(f"SELECT count(*) FROM {_PAIRS} WHERE {where}", *values)[0]
        found = pairs.all(
            f"SELECT {columns} FROM {_PAIRS} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",
            *values,
            question.limit,
            question.offset,
        )
    return {"total": total, "matching": matching, "offset": question.offset, "rows": [_pair(row) for row in found]}


def compared_problem(a: Side, b: Side, row: int) -> Json:
    """Return the problem of a row of A in both runs, step by step.

    Raises ``RequestError`` if a run does not have it, ``RunError`` if a log is damaged.
    """
    in_a = problem_view(a.log, a.rows, row)
    other = b.rows.row_of((in_a["id"], in_a["sample"]))
    if other is None:
        raise RequestError("the other run does not have this problem", status=404, code="no_problem")
    in_b = problem_view(b.log, b.rows, other)
    texts_a, texts_b = ([step["text"] for step in side["steps"]] for side in (in_a, in_b))
    steps = [_compared(step, *texts) for step, texts in enumerate(zip_longest(texts_a, texts_b))]
    right_a, right_b = in_a["right"] is True, in_b["right"] is True
    return {
        "id": in_a["id"],
        "sample": in_a["sample"],
        "parts": next((step["step"] for step in steps if not step["same"]), None),
        "change": "none" if right_a == right_b else "lost" if right_a else "gained",
        "a": in_a,
        "b": in_b,
        "steps": steps,
    }


def shown_names(names: dict[str, FilterName]) -> list[Json]:
    """Return the names for expressions as the API has them."""
    return [{"name": name.name, "type": name.type, "meaning": name.meaning} for name in names.values()]


def _compared(step: int, text_a: str | None, text_b: str | None) -> Json:
    differs = text_a is not None and text_b is not None and text_a != text_b
    diff = word_diff(text_a or "", text_b or "", ("a", "b")) if differs else None
    return {"step": step, "same": text_a == text_b, "diff": diff}


def _pair(row: sqlite3.Row) -> Json:
    sides = {side: {name: shortened(name, row[f"{side}_{name}"]) for name in ("row", *_SHOWN)} for side in "ab"}
    return {**{name: shortened(name, row[name]) for name in (*_OF_BOTH, "change", "parts")}, **sides}


class _Pairs:
    """A connection that reads the indexes of both runs."""

    def __init__(self, a: Side, b: Side) -> None:
        self._connection = connect(Path(":memory:"))
        self._connection.create_function(_PARTS, 2, first_difference, deterministic=True)
        for name, side in (("a", a), ("b", b)):
            self._connection.execute(f"ATTACH DATABASE ? AS {name}", (str(side.rows.path),))

    def __enter__(self) -> "_Pairs":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def one(self, sql: str, *values: str | float) -> Any:  # noqa: ANN401 - a row of any values
        return self._connection.execute(sql, values).fetchone()

    def all(self, sql: str, *values: str | float) -> list[sqlite3.Row]:
        return self._connection.execute(sql, values).fetchall()
