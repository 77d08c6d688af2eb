"""Runs that are damaged, of another version, gone, or being written: it is said, and other runs stay usable."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbiter.data import Problem
from arbiter.log.lock import locked
from arbiter.log.reader import LOG
from arbiter.view.run_indexes import stored_path
from tests.arbiter.view.conftest import numbered

Record = Callable[..., Path]
View = Callable[[Path], Any]

HOSTILE = [
    "<script>alert(1)</script>",
    "a/b/../c",
    "?x=1&y=2#z",
    "%2F%00",
    "line\nfeed\ttab",
    "\u202eright to left\u202c عربى",
    "'; DROP TABLE rows; --",
    '" quotes \' "',
    "\\frac{1}{2}",
    "x" * 20_000,
    " ",
    "\x00\x1b[31m",
]


@pytest.fixture
def folder(record: Record, tmp_path: Path) -> Path:
    """A folder with a whole run, and another one that a test damages."""
    record(tmp_path / "good", numbered(3), run_type="router")
    record(tmp_path / "bad", numbered(6), run_type="router")
    return tmp_path


def damage(log: Path, line: int) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"v":2', b'"v":3', 1)
    log.write_bytes(b"".join(lines))


def assert_the_other_run_is_usable(browsing: Any) -> None:
    assert len(browsing.whole(f"runs/{browsing.id('good')}/problems")["rows"]) == 3


def test_a_log_that_is_damaged_in_the_middle_is_shown_up_to_the_damage(folder: Path, view: View) -> None:
    log = folder / "bad" / LOG
    damage(log, len(log.read_bytes().splitlines()) // 2)
    with view(folder) as browsing:
        found = browsing.whole(f"runs/{browsing.id('bad')}/problems")
        assert 0 < found["total"] <= 6
        assert "the log is damaged here" in found["index"]["error"]
        assert "Restore it from a copy" in found["index"]["error"]
        assert not stored_path(log).exists()
        assert_the_other_run_is_usable(browsing)


@pytest.mark.parametrize("torn", [0, 20], ids=["between lines", "within a line"])
def test_a_finished_run_whose_log_ends_too_early_says_so_at_each_start(folder: Path, view: View, torn: int) -> None:
    log = folder / "bad" / LOG
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[: len(lines) // 2]) + lines[len(lines) // 2][:torn])
    for _ in range(2):  # the second start reads the stored index
        with view(folder) as browsing:
            found = browsing.whole(f"runs/{browsing.id('bad')}")
            assert "the log ends too early" in found["index"]["error"]
            assert "of the 6 results" in found["index"]["error"]
            assert browsing.whole(f"runs/{browsing.id('good')}")["index"]["error"] is None


def test_a_log_whose_beginning_is_damaged_says_so_in_the_list_and_when_it_is_opened(folder: Path, view: View) -> None:
    damage(folder / "bad" / LOG, 0)
    with view(folder) as browsing:
        run = browsing.runs()["bad"]
        assert run["state"] == "damaged"
        assert f"{LOG}, line 1: the log is damaged here" in run["error"]
        error = browsing.error(f"runs/{run['run']}/problems", 409)
        assert (error["code"], "line 1" in error["message"]) == ("damaged", True)
        assert_the_other_run_is_usable(browsing)


def test_a_log_of_another_version_names_the_versions(folder: Path, view: View) -> None:
    (folder / "bad" / LOG).write_bytes(b'{"v":99,"run":"x","seq":0}\n')
    with view(folder) as browsing:
        run = browsing.runs()["bad"]
        assert run["state"] == "damaged"
        assert "schema version 99" in run["error"]
        assert_the_other_run_is_usable(browsing)


def test_a_damaged_summary_is_said_in_the_list(folder: Path, view: View) -> None:
    (folder / "bad" / "summary.json").write_text("{")
    with view(folder) as browsing:
        run = browsing.runs()["bad"]
        assert (run["state"], "summary.json" in run["error"]) == ("damaged", True)
        assert len(browsing.whole(f"runs/{run['run']}/problems")["rows"]) == 6


def test_results_without_a_log_have_figures_but_no_problems(folder: Path, view: View) -> None:
    (folder / "bad" / LOG).unlink()
    with view(folder) as browsing:
        run = browsing.runs()["bad"]
        assert (run["viewable"], run["problems"]) == (False, 6)
        assert browsing.error(f"runs/{run['run']}/problems", 409)["code"] == "not_available"


def test_a_compressed_log_is_read(folder: Path, view: View) -> None:
    log = folder / "bad" / LOG
    (folder / "bad" / f"{LOG}.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    with view(folder) as browsing:
        run = browsing.id("bad")
        rows = browsing.whole(f"runs/{run}/problems")["rows"]
        assert len(rows) == 6
        assert browsing.get(f"runs/{run}/problems/4")["id"] == rows[3]["id"]


def test_a_folder_without_runs_says_what_makes_one(tmp_path: Path, view: View) -> None:
    with view(tmp_path) as browsing:
        found = browsing.get("runs")
    assert found["runs"] == []
    assert "arbiter bench pocket makes one" in found["error"]


def test_a_run_that_vanishes_is_gone_from_the_list_and_an_error_when_it_is_opened(folder: Path, view: View) -> None:
    with view(folder) as browsing:
        run = browsing.id("bad")
        browsing.whole(f"runs/{run}/problems")
        shutil.rmtree(folder / "bad")
        for path in (f"runs/{run}", f"runs/{run}/problems", f"runs/{run}/problems/1", f"runs/{run}/timeline"):
            assert browsing.error(path, 404)["code"] == "no_run"
        assert set(browsing.runs()) == {"good"}
        assert_the_other_run_is_usable(browsing)


def test_a_log_that_vanishes_is_an_error_that_names_it(folder: Path, view: View) -> None:
    with view(folder) as browsing:
        run = browsing.id("bad")
        browsing.whole(f"runs/{run}/problems")
        (folder / "bad" / LOG).unlink()
        assert LOG in browsing.error(f"runs/{run}/problems", 409)["message"]
        assert_the_other_run_is_usable(browsing)


def test_a_folder_that_vanishes_is_said(tmp_path: Path, view: View) -> None:
    (tmp_path / "runs").mkdir()
    with view(tmp_path / "runs") as browsing:
        (tmp_path / "runs").rmdir()
        assert "there is no folder" in browsing.get("runs")["error"]


def test_any_text_can_be_an_id_a_question_and_an_answer(record: Record, view: View, tmp_path: Path) -> None:
    problems = [Problem(text, text, text) for text in HOSTILE]
    record(tmp_path / "run", problems, run_type="router")
    with view(tmp_path) as browsing:
        run = browsing.id("run")
        rows = browsing.whole(f"runs/{run}/problems")["rows"]
        assert {row["id"] for row in rows} == set(HOSTILE)
        for row in rows:
            problem = browsing.get(f"runs/{run}/problems/{row['row']}")
            assert (problem["id"], problem["question"], problem["expected"]) == (row["id"], row["id"], row["id"])
            assert row["question"] == row["id"][:500]
        sides = {"a": run, "b": run}
        pairs = browsing.get("compare/problems", **sides)
        assert (pairs["total"], {pair["id"] for pair in pairs["rows"]}) == (len(HOSTILE), set(HOSTILE))
        found = browsing.get(f"runs/{run}/problems", text="DROP table rows")
        assert [row["id"] for row in found["rows"]] == ["'; DROP TABLE rows; --"]


def test_folders_can_have_any_name(record: Record, view: View, tmp_path: Path) -> None:
    names = ["a b", "#?%2F&", "\u202ertl", "<b>", b"\xff\xfe".decode(errors="surrogateescape")]
    for name in names:
        record(tmp_path / name, numbered(1), run_type="router")
    with view(tmp_path) as browsing:
        runs = browsing.runs()
        assert set(runs) == {name.encode(errors="surrogateescape").decode(errors="replace") for name in names}
        for run in runs.values():
            assert len(browsing.whole(f"runs/{run['run']}/problems")["rows"]) == 1


def test_a_run_grows_in_the_viewer_while_it_is_written(folder: Path, view: View) -> None:
    """The log is written line by line, with the lock of a run, and half a line at the end."""
    run_folder, log = folder / "bad", folder / "bad" / LOG
    lines = log.read_bytes().splitlines(keepends=True)
    (run_folder / "summary.json").unlink()
    (run_folder / "results.jsonl").unlink()
    log.write_bytes(lines[0])
    with view(folder) as browsing, locked(run_folder / f".{LOG}.lock", "run"):
        run = browsing.id("bad")
        shown = list[int]()
        for end in range(1, len(lines) + 1):
            log.write_bytes(b"".join(lines[:end]) + lines[min(end, len(lines) - 1)][:20])
            found = browsing.whole(f"runs/{run}/problems")
            shown.append(sum(row["grade"] != "unfinished" for row in found["rows"]))
        log.write_bytes(b"".join(lines))
        assert shown == sorted(shown)
        assert (shown[0], shown[-1]) == (0, 6)
        listed = browsing.runs()["bad"]
        assert (listed["state"], listed["live"], listed["ended"]) == ("running", True, 6)
        assert listed["accuracy"] is not None
        assert not stored_path(log).exists()


def test_a_log_that_another_run_replaces_is_read_again(record: Record, folder: Path, view: View) -> None:
    with view(folder) as browsing:
        run = browsing.id("bad")
        assert browsing.whole(f"runs/{run}/problems")["total"] == 6
        shutil.rmtree(folder / "bad")
        record(folder / "bad", numbered(2, "other"), run_type="router")
        rows = browsing.whole(f"runs/{run}/problems")["rows"]
        assert [row["id"] for row in rows] == ["p0", "p1", "other"]
