"""What is a run for the viewer (logs of endpoints, points of sweeps), and the index that it keeps of each."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.config.config import Config
from arbiter.library.arbiter import Arbiter
from arbiter.log.checksums import as_document
from arbiter.log.reader import LOG
from arbiter.view.index_building import IndexBuilder
from arbiter.view.problem_rows import first_difference
from arbiter.view.row_index import Question, RowIndex
from arbiter.view.run_indexes import KEPT, RunIndexes, stored_path
from tests.arbiter.view.conftest import numbered, scripted

Record = Callable[..., Path]
View = Callable[[Path], Any]


def whole(indexes: RunIndexes, log: Path) -> Any:
    """Return the index of a log once it is whole."""
    while not (index := indexes.index(log)).state().complete:
        pass
    return index


def test_the_log_of_a_program_or_an_endpoint_is_a_run_without_grades(
    a_config: Callable[..., Config], view: View, tmp_path: Path
) -> None:
    async def call() -> None:
        async with Arbiter(a_config(run_type="router"), models=scripted(), out=tmp_path / "served") as arbiter:
            await arbiter.solve("What is it?")

    anyio.run(call)
    with view(tmp_path) as browsing:
        run = browsing.runs()["served"]
        assert (run["kind"], run["state"], run["viewable"]) == ("calls", "finished", True)
        rows = browsing.whole(f"runs/{run['run']}/problems")["rows"]
        assert [(row["question"], row["grade"], row["expected"]) for row in rows] == [
            ("What is it?", "not graded", None)
        ]
        listed = browsing.runs()["served"]
        assert (listed["problems"], listed["samples"], listed["ended"], listed["accuracy"]) == (1, 1, 1, None)


def test_the_points_of_a_sweep_are_runs_that_name_their_sweep(record: Record, view: View, tmp_path: Path) -> None:
    for threshold in (0.3, 0.6):
        record(
            tmp_path / "curve" / f"router-{threshold}", numbered(3), run_type="router", thresholds={"router": threshold}
        )
    points = [{"run_type": "router"}] * 2
    content = as_document(msgspec.json.encode({"points": points, "interrupted": False}))
    (tmp_path / "curve" / "sweep.json").write_bytes(content)
    with view(tmp_path) as browsing:
        runs = browsing.runs()
        sweep = runs["curve"]
        assert (sweep["kind"], sweep["points"], sweep["viewable"], sweep["state"]) == ("sweep", 2, False, "finished")
        assert {run["threshold"] for run in runs.values() if run["parent"] == sweep["run"]} == {0.3, 0.6}
        assert browsing.error(f"runs/{sweep['run']}/problems", 409)["code"] == "not_available"
        assert browsing.get(f"runs/{sweep['run']}")["index"] is None
    with view(tmp_path / "curve") as browsing:
        assert set(browsing.runs()) == {"router-0.3", "router-0.6"}


def test_a_run_alone_is_a_list_of_one(some_runs: Path, view: View) -> None:
    with view(some_runs / "rsd") as browsing:
        assert set(browsing.runs()) == {"rsd"}


def test_a_stored_index_is_used_again_and_a_damaged_one_is_made_again(record: Record, tmp_path: Path) -> None:
    log = record(tmp_path / "run", numbered(4), run_type="router") / LOG
    pages = list[Any]()
    for damaged in (False, False, True):
        if damaged:
            content = stored_path(log).read_bytes()
            stored_path(log).write_bytes(content[:2000] + b"\xff" + content[2001:])
        indexes = RunIndexes()
        index = whole(indexes, log)
        pages.append(index.rows.page(Question()))
        assert (index.builder is None) == (len(pages) == 2)
        indexes.close()
        assert stored_path(log).exists()
    assert pages[0] == pages[1] == pages[2]


def test_a_stored_index_of_another_log_is_not_used(record: Record, tmp_path: Path) -> None:
    one, other = (record(tmp_path / name, numbered(2, name), run_type="router") / LOG for name in ("one", "other"))
    indexes = RunIndexes()
    whole(indexes, one)
    stored_path(other).write_bytes(stored_path(one).read_bytes())
    assert [row["id"] for row in whole(indexes, other).rows.page(Question())[2]] == ["p0", "p1", "other"]
    indexes.close()


def test_only_some_indexes_are_open_at_the_same_time(record: Record, tmp_path: Path) -> None:
    logs = [record(tmp_path / f"run-{n}", numbered(1), run_type="router") / LOG for n in range(KEPT + 3)]
    indexes = RunIndexes()
    found = [whole(indexes, log) for log in logs]
    open_files = [index for index in found if index.rows.path.exists()]
    assert open_files == found[-KEPT:]
    assert whole(indexes, logs[0]).rows.count() == 1
    indexes.close()


@pytest.mark.parametrize("lines", [1, 3, 1000])
def test_rows_do_not_depend_on_how_much_is_read_at_once(record: Record, tmp_path: Path, lines: int) -> None:
    log = record(tmp_path / "run", numbered(9, "broken"), run_type="router") / LOG
    pages, loads = list[Any](), list[Any]()
    for number, most in enumerate((lines, 250)):
        rows = RowIndex(tmp_path / f"{number}.sqlite")
        builder = IndexBuilder(log, rows)
        builder.lines = most
        while builder.advance():
            builder.lines = most
        pages.append(rows.page(Question()))
        loads.append(rows.about("load"))
        rows.close()
    assert pages[0] == pages[1]
    assert loads[0] == loads[1]


def test_an_index_cannot_be_read_after_it_is_closed(tmp_path: Path) -> None:
    rows = RowIndex(tmp_path / "rows.sqlite")
    rows.close()
    with pytest.raises(sqlite3.ProgrammingError):
        rows.count()


@pytest.mark.parametrize(
    ("a", "b", "step"),
    [
        (b"", b"", None),
        (b"1234567812345678", b"1234567812345678", None),
        (b"1234567812345678", b"12345678", 1),
        (b"", b"12345678", 0),
        (b"1234567812345678", b"1234567811111111", 1),
        (b"x234567812345678", b"12345678", 0),
    ],
)
def test_the_first_step_that_differs_is_found(a: bytes, b: bytes, step: int | None) -> None:
    assert first_difference(a, b) == first_difference(b, a) == step
