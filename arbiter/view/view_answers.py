"""The answers of the viewer's API, one method for each address. Their methods may be called from any thread."""

import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from arbiter.log.run import Run
from arbiter.protocols.errors import ArbiterError, RequestError
from arbiter.runs.documents import read_document
from arbiter.runs.stored_summary import NAME as SUMMARY
from arbiter.view.load_over_time import Load
from arbiter.view.problem_rows import NAMES
from arbiter.view.problem_view import problem_view
from arbiter.view.row_index import IndexState, Question
from arbiter.view.run_comparison import Side, compared_problem, comparison, pair_page, shown_names
from arbiter.view.run_indexes import RunIndex, RunIndexes
from arbiter.view.threshold_view import ThresholdViews
from arbiter.view.viewed_runs import RunList, ViewedRun, shown

Json = dict[str, Any]
Query = Mapping[str, str]

LARGEST_PAGE = 500
"""The largest number of rows in an answer."""

_PAGED = ("filter", "text", "sort", "offset", "limit")
_LARGEST = 2**62  # what a column of SQLite holds


class ViewAnswers:
    """The answers about the runs in and below ``folder``. Close them at the end."""

    def __init__(self, folder: Path) -> None:
        self._indexes = RunIndexes()
        self._list = RunList(folder, self._indexes)
        self._thresholds = ThresholdViews()

    def close(self) -> None:
        self._indexes.close()

    def runs(self, query: Query) -> Json:
        _check(query, ())
        folder, error = self._list.folder, None
        found = self._list.runs() if folder.is_dir() else []
        if not folder.is_dir():
            error = f"there is no folder {shown(folder)}: it was moved or removed; start arbiter view with another one"
        elif not found:
            error = f"no runs in {shown(folder)}; arbiter bench pocket makes one"
        return {"folder": shown(folder), "version": version("arbiter-reasoning"), "error": error, "runs": found}

    def run(self, name: str, query: Query) -> Json:
        _check(query, ())
        placed, viewed = self._list.run(name)
        path = placed.found.path
        about: Json = {
            "run": viewed,
            "summary": _summary(path),
            "configuration": _text(path / "config.toml"),
            "identity": {},
            "versions": {},
            "record": None,
            "index": None,
            "filter_names": shown_names(NAMES),
            "what_if": None,
        }
        if not viewed.viewable:
            return about
        index = self._index(name)
        started = Run.open(index.log).started
        state = index.state()
        if state.complete and state.error is None:
            state = msgspec.structs.replace(state, error=_missing_end(index, viewed))
        return about | {
            "identity": started.identity,
            "versions": started.versions,
            "record": started.record,
            "index": state,
            "what_if": self._thresholds.about(index),
        }

    def problems(self, name: str, query: Query) -> Json:
        _check(query, _PAGED)
        index = self._index(name)
        state = index.state()
        total, matching, rows = index.rows.page(question := _question(query))
        return {"total": total, "matching": matching, "offset": question.offset, "rows": rows, "index": state}

    def problem(self, name: str, row: int, query: Query) -> Json:
        _check(query, ())
        index = self._index(name)
        return problem_view(index.log, index.rows, min(row, _LARGEST))

    def timeline(self, name: str, query: Query) -> Json:
        _check(query, ())
        index = self._index(name)
        state = index.state()
        return {**(index.rows.about("load") or Load().to_json()), "index": state}

    def what_if(self, name: str, query: Query) -> Json:
        _check(query, ("threshold",))
        index = self._index(name)
        if not index.state().complete:
            raise RequestError("the run is still being indexed: ask again", status=409, code="not_indexed")
        return self._thresholds.at(index, _number(query, "threshold"))

    def compare(self, query: Query) -> Json:
        _check(query, ("a", "b"))
        a, b = self._both(query)
        runs: dict[str, ViewedRun] = {side: self._list.run(query[side])[1] for side in "ab"}
        state = _joined(a, b)
        return {**runs, **comparison(_side(a), _side(b)), "index": state}

    def pairs(self, query: Query) -> Json:
        _check(query, ("a", "b", *_PAGED))
        a, b = self._both(query)
        state = _joined(a, b)
        return {**pair_page(_side(a), _side(b), _question(query)), "index": state}

    def pair(self, query: Query) -> Json:
        _check(query, ("a", "b", "row"))
        a, b = self._both(query)
        return compared_problem(_side(a), _side(b), _whole(query, "row", 0, _LARGEST))

    def _both(self, query: Query) -> tuple[RunIndex, RunIndex]:
        missing = [side for side in "ab" if side not in query]
        if missing:
            raise RequestError(f"{missing[0]} is missing: give the runs a and b", code="bad_parameter")
        return self._index(query["a"]), self._index(query["b"])

    def _index(self, name: str) -> RunIndex:
        """Return the index of a run. A damaged log is read up to its damage.

        Raises ``RequestError`` if there is no such run, or if nothing of its log can be read.
        """
        placed, _ = self._list.run(name)
        index = self._indexes.index(self._list.log(placed))
        state = index.state()
        if state.error is not None and not state.rows:
            raise RequestError(state.error, status=409, code="damaged")
        return index


def _missing_end(index: RunIndex, viewed: ViewedRun) -> str | None:
    """Return what to do about a log that has fewer results than the summary; None if nothing of it is missing."""
    if viewed.live or viewed.ended is None:
        return None
    total, unfinished, _ = index.rows.page(Question(filter='grade == "unfinished"', limit=1))
    if total - unfinished >= viewed.ended:
        return None
    return (
        f"{shown(index.log)}: the log ends too early: it has {total - unfinished} of the {viewed.ended} results in "
        f"{SUMMARY}. Restore it from a copy"
    )


def _side(index: RunIndex) -> Side:
    return Side(index.log, index.rows)


def _joined(*indexes: RunIndex) -> IndexState:
    """Return how far several indexes are together."""
    states = [index.state() for index in indexes]
    errors = [state.error for state in states if state.error is not None]
    return IndexState(
        complete=all(state.complete for state in states),
        rows=sum(state.rows for state in states),
        share=min(state.share for state in states),
        error=errors[0] if errors else None,
    )


def _check(query: Query, known: Collection[str]) -> None:
    unknown = sorted({*query} - {*known})
    if unknown:
        allowed = ", ".join(known) or "none"
        raise RequestError(f"unknown parameter {unknown[0]!r}; allowed: {allowed}", code="bad_parameter")


def _question(query: Query) -> Question:
    return Question(
        filter=query.get("filter", ""),
        text=query.get("text", ""),
        sort=query.get("sort", "row"),
        offset=_whole({"offset": "0", **query}, "offset", 0, _LARGEST),
        limit=_whole({"limit": "100", **query}, "limit", 1, LARGEST_PAGE),
    )


def _whole(query: Query, name: str, least: int, most: int) -> int:
    value = query.get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) < 20 and least <= int(value) <= most):
        raise RequestError(f"{name}={value}: give a whole number from {least} to {most}", code="bad_parameter")
    return int(value)


def _number(query: Query, name: str) -> float:
    value = math.nan
    with suppress(ValueError):
        value = float(query.get(name, ""))
    if not math.isfinite(value):
        raise RequestError(f"{name}={query.get(name, '')}: give a number", code="bad_parameter")
    return value


def _summary(path: Path) -> object:
    with suppress(ArbiterError):
        return read_document(path / SUMMARY, dict[str, Any], "")
    return None


def _text(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return None
