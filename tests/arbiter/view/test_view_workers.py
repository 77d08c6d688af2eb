"""Runs of several workers in the viewer: the same as a run of one process, also while the workers write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from arbiter.log.reader import LOG
from arbiter.view.run_indexes import RunIndexes, stored_path
from tests.arbiter.distributed.scripted_cluster import PROBLEMS, ScriptedCluster, a_config, solved
from tests.arbiter.view.conftest import Browsing
from tests.arbiter.view.test_view_runs import whole

View = Callable[[Path], Any]
THRESHOLDS = {"thresholds": {"rsd": 0.5}}
SAME = ("id", "sample", "grade", "answer", "expected", "right", "steps", "finish", "question", "error", "authors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, and the same of three workers, two of which were killed and one stood still."""
    folder = tmp_path_factory.mktemp("several")
    anyio.run(solved, folder / "alone", a_config(**THRESHOLDS), None)
    accidents = {10: ("kill", 0), 25: ("stand", 1), 40: ("kill", 2)}
    anyio.run(solved, folder / "workers", a_config(**THRESHOLDS), ScriptedCluster(accidents))
    return folder


def rows(browsing: Browsing, name: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in browsing.whole(f"runs/{browsing.id(name)}/problems")["rows"]}


def test_the_rows_and_problems_of_workers_are_those_of_one_process(folder: Path, view: View) -> None:
    with view(folder) as browsing:
        alone, workers = rows(browsing, "alone"), rows(browsing, "workers")
        assert len(alone) == len(PROBLEMS)
        for problem, row in alone.items():
            other = workers[problem]
            shared = [name for name in SAME if name in row]
            assert [other[name] for name in shared] == [row[name] for name in shared]
            pages = [
                browsing.get(f"runs/{browsing.id(name)}/problems/{one['row']}")
                for name, one in (("alone", row), ("workers", other))
            ]
            texts = [[step["text"] for step in page["steps"]] for page in pages]
            assert texts[0] == texts[1] != []
        listed = browsing.runs()
        assert listed["workers"]["viewable"]
        assert listed["workers"]["accuracy"] == listed["alone"]["accuracy"]


def test_a_run_of_workers_is_compared_and_has_other_thresholds(folder: Path, view: View) -> None:
    with view(folder) as browsing:
        alone, workers = browsing.id("alone"), browsing.id("workers")
        for run in (alone, workers):
            browsing.whole(f"runs/{run}/problems")
        compared = browsing.whole("compare", a=alone, b=workers)
        assert (compared["same"], compared["different"]) == (len(PROBLEMS), 0)
        found = [browsing.get(f"runs/{run}/what-if", threshold=0.2) for run in (alone, workers)]
        for name in ("exact", "left", "recorded", "replayed"):
            assert found[0][name] == found[1][name]


def test_the_timeline_of_workers_counts_every_problem_once(folder: Path, view: View) -> None:
    with view(folder) as browsing:
        run = browsing.id("workers")
        load = browsing.whole(f"runs/{run}/timeline")
        assert sum(load["problems"]["ended"]) == len(PROBLEMS)
        assert sum(load["problems"]["right"]) + sum(load["problems"]["wrong"]) == len(PROBLEMS)


def test_a_run_grows_in_the_viewer_while_workers_write_it(tmp_path: Path, view: View) -> None:
    shown = list[int]()
    with view(tmp_path) as browsing:

        def look(_: str) -> None:
            if len(cluster.asked) % 8 == 0:
                shown.append(sum(row["grade"] != "unfinished" for row in rows(browsing, "live").values()))
                assert browsing.runs()["live"]["live"]

        cluster = ScriptedCluster({20: ("kill", 1)}, watch=look)
        anyio.run(solved, tmp_path / "live", a_config(), cluster)
        assert len(rows(browsing, "live")) == len(PROBLEMS)
        assert all(row["grade"] != "unfinished" for row in rows(browsing, "live").values())
    assert shown == sorted(shown)
    assert shown[0] < shown[-1]


def test_a_run_that_goes_on_with_workers_is_read_again_and_its_index_is_stored(tmp_path: Path) -> None:
    anyio.run(solved, tmp_path, a_config(), ScriptedCluster({}))
    (tmp_path / "events").rename(tmp_path / "elsewhere")
    indexes = RunIndexes()
    try:
        log = tmp_path / LOG
        assert whole(indexes, log).rows.count() == 0
        (tmp_path / "elsewhere").rename(tmp_path / "events")
        assert whole(indexes, log).rows.count() == len(PROBLEMS)
        assert stored_path(log).exists()
    finally:
        indexes.close()
    again = RunIndexes()
    try:
        found = whole(again, log)
        assert found.builder is None
        assert found.rows.count() == len(PROBLEMS)
    finally:
        again.close()
