"""Workers that do not see the run folder send their lines to the ledger, which writes them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import anyio
import msgspec
import pytest

from arbiter.distributed.segment_keeper import Appended, SegmentKeeper
from arbiter.distributed.segment_stream import StreamedSegments, StreamWriter
from arbiter.log.history import Key
from arbiter.log.lines import Happened, compact
from arbiter.log.reader import LogFile
from arbiter.log.recorder import Recorder
from arbiter.log.resume import EarlierSessions
from arbiter.log.run import Run
from arbiter.log.segmented_log import Chain
from arbiter.log.segments import segments_folder
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import CallFailed, Entry, ProblemClaimed
from arbiter.replay.check import check
from tests.arbiter.distributed.scripted_cluster import (
    ScriptedCluster,
    a_config,
    logged,
    solved,
    stored,
    worker_segments,
)

A, B = ("a", 0), ("b", 0)


def claim(seq: int, key: Key) -> Happened:
    return Happened("r", seq, 0.0, [(Entry(f"claim/{seq}", "w0", ProblemClaimed(*key, seq + 1, "w0")), 0)])


def failure(seq: int, key: Key) -> Happened:
    entry = Entry(f"{key[0]}/{seq}", "target", CallFailed("late", 0.1), problem=key[0], sample=key[1], step=0)
    return Happened("r", seq, 0.0, [(entry, 0)])


def encoded(*lines: Happened) -> bytes:
    return msgspec.json.Encoder().encode_lines(map(compact, lines))


class Owners:
    """Which worker has which problem."""

    def __init__(self) -> None:
        self.owners = {A: "w0", B: "w0"}

    def has(self, worker: str, key: Key) -> bool:
        return self.owners.get(key) == worker


def a_keeper(folder: Path, owners: Owners | None = None) -> SegmentKeeper:
    return SegmentKeeper(folder / "events.jsonl", 0, 3600.0, (owners or Owners()).has)


def kinds(folder: Path, name: str) -> list[tuple[str, str | None]]:
    log = LogFile(segments_folder(folder / "events.jsonl") / name)
    return [(event.kind, event.problem) for event in log]


def test_a_batch_that_arrives_again_is_written_once(tmp_path: Path) -> None:
    keeper = a_keeper(tmp_path)
    name = keeper.create("w0")
    batch = encoded(claim(0, A), failure(1, A))
    assert [keeper.append("w0", name, 0, batch) for _ in range(2)] == [Appended(2)] * 2
    longer = encoded(failure(1, A), failure(2, A))  # of which the first line was written before the ledger died
    assert keeper.append("w0", name, 1, longer) == Appended(3)
    assert len(kinds(tmp_path, name)) == 3


def test_a_ledger_that_starts_again_goes_on_after_the_last_whole_line(tmp_path: Path) -> None:
    keeper = a_keeper(tmp_path)
    name = keeper.create("w0")
    keeper.append("w0", name, 0, encoded(claim(0, A), failure(1, A)))
    path = segments_folder(tmp_path / "events.jsonl") / name
    path.write_bytes(path.read_bytes()[:-5])
    assert a_keeper(tmp_path).append("w0", name, 0, encoded(claim(0, A), failure(1, A), failure(2, A))) == Appended(3)
    assert kinds(tmp_path, name) == [("problem_claimed", None), ("call_failed", "a"), ("call_failed", "a")]


def test_late_lines_of_a_problem_that_another_worker_has_are_refused(tmp_path: Path) -> None:
    owners = Owners()
    keeper = a_keeper(tmp_path, owners)
    name = keeper.create("w0")
    keeper.append("w0", name, 0, encoded(claim(0, A), claim(1, B)))
    owners.owners[A] = "w1"
    assert keeper.append("w0", name, 2, encoded(failure(2, A), failure(3, B))) == Appended(2, (A,))
    assert keeper.append("w0", name, 2, encoded(claim(2, A))) == Appended(2, (A,))
    assert keeper.append("w0", name, 2, encoded(failure(2, B))) == Appended(3)
    assert kinds(tmp_path, name)[2:] == [("call_failed", "b")]


def test_a_worker_that_was_replaced_cannot_write_into_its_old_segment(tmp_path: Path) -> None:
    keeper = a_keeper(tmp_path)
    old, new = keeper.create("w0"), keeper.create("w0")
    with pytest.raises(RunError, match=f"{old} is no longer the newest one of the worker w0"):
        keeper.append("w0", old, 0, encoded(claim(0, A)))
    assert keeper.append("w0", new, 0, encoded(claim(0, A))) == Appended(1)


def test_lines_that_the_disk_lost_are_noticed(tmp_path: Path) -> None:
    keeper = a_keeper(tmp_path)
    name = keeper.create("w0")
    with pytest.raises(RunError, match="has lost its last 4 lines"):
        keeper.append("w0", name, 4, encoded(failure(4, A)))


def test_a_segment_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    keeper = a_keeper(tmp_path)
    name = keeper.create("w0")
    keeper.append("w0", name, 0, encoded(claim(0, A)))
    (segments_folder(tmp_path / "events.jsonl") / name).unlink()
    with pytest.raises(RunError, match=r"cannot write the log of the worker w0 .* the run was stopped, and can be"):
        keeper.append("w0", name, 1, encoded(failure(1, A)))


class LocalKeeper:
    """A ``KeeperPort`` in this process, which answers when it may. Keeps the size of each batch in lines."""

    def __init__(self, keeper: SegmentKeeper) -> None:
        self._keeper = keeper
        self.may_answer = anyio.Event()
        self.batches: list[int] = []

    async def create_segment(self, worker: str) -> str:
        return self._keeper.create(worker)

    async def append(self, worker: str, name: str, start: int, batch: bytes) -> Appended:
        await self.may_answer.wait()
        self.batches.append(batch.count(b"\n"))
        return self._keeper.append(worker, name, start, batch)

    async def end_segment(self, worker: str) -> None:
        self._keeper.end(worker)

    async def chains(self, names: Iterable[str]) -> dict[Key, Chain]:
        raise AssertionError(names)


async def written(keeper: LocalKeeper, lines: Sequence[Happened]) -> list[frozenset[Key]]:
    """Write a segment. Return which problems were lost."""
    lost: list[frozenset[Key]] = []
    keeper.may_answer.set()
    async with StreamedSegments(keeper).open_writer("w0", lost.append) as writer:
        for line in lines:
            await writer.room()
            writer.put(line)
        await writer.written()
    return lost


def test_a_writer_drops_refused_lines_and_numbers_the_others_again(tmp_path: Path) -> None:
    owners = Owners()
    owners.owners[A] = "w1"
    lines = [claim(0, A), claim(1, B), failure(2, A), failure(3, B)]
    lost = anyio.run(written, LocalKeeper(a_keeper(tmp_path, owners)), lines)
    assert lost == [frozenset({A})]
    assert kinds(tmp_path, "0000-w0-0.jsonl") == [("problem_claimed", None), ("call_failed", "b")]


def test_lines_are_sent_in_batches(tmp_path: Path) -> None:
    keeper = LocalKeeper(a_keeper(tmp_path))
    anyio.run(written, keeper, [claim(0, A), *(failure(seq, A) for seq in range(1, 3000))])
    assert sum(keeper.batches) == 3000
    assert len(keeper.batches) <= 4


def test_an_error_of_the_writing_side_ends_the_worker_with_its_message(tmp_path: Path) -> None:
    keeper = a_keeper(tmp_path)

    async def replaced() -> None:
        local = LocalKeeper(keeper)
        local.may_answer.set()
        async with StreamedSegments(local).open_writer("w0", lambda _: None) as writer:
            keeper.create("w0")
            writer.put(claim(0, A))
            await writer.written()
            raise AssertionError("it was not written")

    with pytest.raises(RunError, match="is no longer the newest one"):
        anyio.run(replaced)


def test_an_answer_is_used_only_after_its_line_is_written(tmp_path: Path) -> None:
    async def used_before_and_after() -> tuple[bool, bool]:
        keeper, used = LocalKeeper(a_keeper(tmp_path)), anyio.Event()
        before, there = True, list[tuple[str, str | None]]()
        writer = StreamWriter(keeper, "w0", await keeper.create_segment("w0"), lambda _: None)
        recorder = Recorder(writer, EarlierSessions.of_segment("r", 0.0), "full")

        async def answer() -> None:
            await recorder.write(Entry("a/1", "target", CallFailed("x", 0.1), problem="a", step=0))
            used.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run)
            tasks.start_soon(answer)
            await anyio.wait_all_tasks_blocked()
            before = used.is_set()
            keeper.may_answer.set()
            await used.wait()
            there = kinds(tmp_path, "0000-w0-0.jsonl")
            writer.close()
        return before, there == [("call_failed", "a")]

    assert anyio.run(used_before_and_after) == (False, True)


def test_workers_without_the_folder_have_the_transcripts_of_one_process(tmp_path: Path) -> None:
    anyio.run(solved, tmp_path / "alone", a_config(), None)
    cluster = ScriptedCluster({20: ("kill", 0), 35: ("stand", 1), 50: ("ledger", 0), 65: ("kill", 2)}, streams=True)
    anyio.run(solved, tmp_path / "run", a_config(), cluster)
    assert stored(tmp_path / "run") == logged(tmp_path / "run") == stored(tmp_path / "alone")
    assert cluster.paid_again == []
    assert len(worker_segments(tmp_path / "run")) >= 3
    assert check(Run.open(tmp_path / "run")).differences == ()
