"""Whatever dies, and whenever: a run on several workers has the transcripts of a run in one process."""

import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arbiter.log.reader import LOG
from arbiter.log.run import Run
from arbiter.protocols.events import RunEnded
from arbiter.replay.check import check
from tests.arbiter.distributed.scripted_cluster import (
    PROBLEMS,
    ScriptedCluster,
    a_config,
    logged,
    solved,
    stored,
    worker_segments,
)

KINDS = ("kill", "stand", "ledger")
ACCIDENTS = st.dictionaries(
    st.integers(1, 100), st.tuples(st.sampled_from(KINDS), st.integers(0, 2)), min_size=1, max_size=6
)


@pytest.fixture(scope="module")
def alone() -> dict[str, object]:
    """The transcripts of a run in one process."""
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(solved, Path(folder), a_config(), None)
        return stored(Path(folder))


def test_three_workers_have_the_transcripts_of_one_process(tmp_path: Path, alone: dict[str, object]) -> None:
    cluster = ScriptedCluster({})
    summary = anyio.run(solved, tmp_path, a_config(), cluster)
    assert (summary.problems, summary.failed, summary.interrupted) == (len(PROBLEMS), 0, False)
    assert stored(tmp_path) == logged(tmp_path) == alone
    assert len(cluster.asked) == len(set(cluster.asked))
    assert len(worker_segments(tmp_path)) == 3


@pytest.mark.slow
def test_nothing_is_lost_double_or_paid_again_after_accidents_of_each_kind(
    tmp_path: Path, alone: dict[str, object]
) -> None:
    cluster = ScriptedCluster({20: ("kill", 0), 35: ("stand", 1), 50: ("ledger", 0), 65: ("kill", 2)})
    anyio.run(solved, tmp_path, a_config(), cluster)
    assert stored(tmp_path) == logged(tmp_path) == alone
    assert cluster.paid_again == []


@pytest.mark.nightly
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(accidents=ACCIDENTS)
def test_nothing_is_lost_double_or_paid_again_whatever_happens(
    alone: dict[str, object], accidents: dict[int, tuple[str, int]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, cluster = Path(name), ScriptedCluster(accidents)
        anyio.run(solved, folder, a_config(), cluster)
        assert stored(folder) == logged(folder) == alone
        assert cluster.paid_again == []


async def until(folder: Path, cluster: ScriptedCluster | None, requests: int) -> list[str]:
    """Solve until a number of requests have been made, and then die. Return the requests."""
    asked: list[str] = []

    def ask(call: str) -> None:
        asked.append(call)
        if len(asked) == requests:
            scope.cancel()

    with anyio.CancelScope() as scope:
        if cluster is None:
            await solved(folder, a_config(), None, ask)
        else:
            cluster.watch = ask
            await solved(folder, a_config(), cluster)
    return asked


@pytest.mark.nightly
@pytest.mark.parametrize("resumed_by", ["workers", "one process"])
@pytest.mark.parametrize("begun_by", ["workers", "one process"])
@pytest.mark.parametrize("requests", [7, 60])
def test_a_run_is_resumed_with_workers_and_without(
    tmp_path: Path, alone: dict[str, object], begun_by: str, resumed_by: str, requests: int
) -> None:
    before = anyio.run(until, tmp_path, ScriptedCluster({}) if begun_by == "workers" else None, requests)
    after: list[str] = []
    cluster = ScriptedCluster({}) if resumed_by == "workers" else None
    summary = anyio.run(solved, tmp_path, a_config(), cluster, after.append)
    after += cluster.asked if cluster else []
    assert summary.problems == len(PROBLEMS)
    assert stored(tmp_path) == logged(tmp_path) == alone
    assert len({*before, *after}) + 12 >= len(before) + len(after)  # only what was in flight is requested again


@pytest.mark.nightly
def test_a_third_session_follows_sessions_of_both_kinds(tmp_path: Path, alone: dict[str, object]) -> None:
    anyio.run(until, tmp_path, ScriptedCluster({}), 25)
    anyio.run(until, tmp_path, None, 25)
    anyio.run(solved, tmp_path, a_config(), ScriptedCluster({10: ("kill", 0)}))
    assert stored(tmp_path) == logged(tmp_path) == alone
    sessions = [event for event in Run.open(tmp_path).events() if event.kind == "run_started"]
    assert len(sessions) == 3


@pytest.mark.slow
def test_what_a_worker_writes_after_the_next_session_began_does_not_count(
    tmp_path: Path, alone: dict[str, object]
) -> None:
    anyio.run(until, tmp_path, ScriptedCluster({}), 40)
    late = {path: path.read_bytes() for path in worker_segments(tmp_path)}
    for path in late:  # as they were when the session was read; the rest comes late
        lines = late[path].splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: len(lines) // 2]))
    anyio.run(solved, tmp_path, a_config(), None)
    for path, whole in late.items():
        path.write_bytes(whole)
    assert logged(tmp_path) == alone
    asked: list[str] = []
    anyio.run(solved, tmp_path, a_config(), None, asked.append)
    assert asked == []


@pytest.mark.nightly
def test_a_half_written_line_of_a_segment_is_left_out(tmp_path: Path, alone: dict[str, object]) -> None:
    anyio.run(until, tmp_path, ScriptedCluster({}), 40)
    for path in worker_segments(tmp_path):
        path.write_bytes(path.read_bytes()[:-9])
    anyio.run(solved, tmp_path, a_config(), ScriptedCluster({}))
    assert stored(tmp_path) == logged(tmp_path) == alone


@pytest.mark.slow
def test_the_replay_of_a_run_with_accidents_has_no_difference(tmp_path: Path) -> None:
    anyio.run(solved, tmp_path, a_config(), ScriptedCluster({20: ("kill", 0), 30: ("stand", 1)}))
    run = Run.open(tmp_path)
    outcome = check(run)
    assert (outcome.problems, outcome.unfinished, outcome.differences) == (len(PROBLEMS), 0, ())


@pytest.mark.nightly
def test_the_timeline_has_all_events_in_the_order_of_their_times(tmp_path: Path) -> None:
    anyio.run(solved, tmp_path, a_config(), ScriptedCluster({20: ("kill", 0)}))
    run = Run.open(tmp_path)
    timeline = list(run.timeline())
    assert sorted(event.id for event in timeline) == sorted(event.id for event in run.events())
    assert [event.mono for event in timeline] == sorted(event.mono for event in timeline)
    assert isinstance(list(run.follow())[-1].payload, RunEnded)
    assert (tmp_path / LOG).stat().st_size > 0
