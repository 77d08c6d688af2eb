"""The writer loses and reorders nothing, and blocks only callers that write while the queue is full."""

import os
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import anyio
import anyio.from_thread
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.log.checksums import Checksums
from arbiter.log.lines import Happened, compact, expand
from arbiter.log.writer import open_writer
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Entry, Event, RunEnded, StepFailedEvent
from tests.hypothesis_profiles import examples

HOUR = 3600.0


def a_line(seq: int, text: str = "") -> Happened:
    payload = StepFailedEvent("drafter", "draft_step", text) if text else RunEnded()
    return Happened("r", seq, 0.0, [(Entry(str(seq), "a", payload), 0)])


def read(path: Path) -> list[Event]:
    return decoded(path.read_bytes().splitlines(keepends=True))


def decoded(lines: Iterable[bytes]) -> list[Event]:
    """The events of lines that follow each other, by their checksums, from the first line of a log."""
    checksums = Checksums()
    return [msgspec.json.decode(checksums.verified(line), type=Event) for line in lines]


@pytest.fixture
def slow(tmp_path: Path) -> "Slow":
    return Slow(tmp_path / "slow")


class Slow:
    """A disk that accepts as much as a pipe holds, and then nothing until the pipe is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.lines: list[bytes] = []

    def read_on(self) -> threading.Thread:
        """Start to read in a thread, until the writer has closed."""
        os.set_blocking(self._end, True)

        def drain() -> None:
            with os.fdopen(self._end, "rb") as file:
                self.lines += list(file)

        thread = threading.Thread(target=drain)
        thread.start()
        return thread

    def seqs(self) -> list[int]:
        return [event.seq for event in decoded(self.lines)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@examples(0.5)
@given(room=st.integers(1, 4), senders=st.integers(1, 8), each=st.integers(1, 30), show=st.booleans())
@pytest.mark.slow
def test_all_is_written_in_the_order_in_which_it_was_handed_over(
    tmp_path_factory: pytest.TempPathFactory, backend: Literal["asyncio", "trio"], room: int, senders: int, each: int,
    show: bool,
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("log") / "log"
    handed: list[Happened] = []
    shown: list[Event] = []

    async def main() -> None:
        async with (
            open_writer(path, HOUR, shown.append if show else None, room) as writer,
            anyio.create_task_group() as tasks,
        ):

            async def send() -> None:
                for _ in range(each):
                    await writer.room()
                    handed.append(a_line(len(handed)))
                    writer.put(handed[-1])

            for _ in range(senders):
                tasks.start_soon(send)

    anyio.run(main, backend=backend)
    assert len(handed) == senders * each
    assert read(path) == [event for line in handed for event in expand(compact(line))]
    assert shown == (read(path) if show else [])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_slow_disk_holds_up_those_who_write_and_nobody_else(slow: Slow, backend: Literal["asyncio", "trio"]) -> None:
    turns = handed = 0
    waiting = False
    readers: list[threading.Thread] = []

    async def main() -> None:
        nonlocal turns, handed, waiting
        async with open_writer(slow.path, HOUR, room=3) as writer, anyio.create_task_group() as tasks:

            async def send() -> None:
                nonlocal handed, waiting
                for seq in range(200):
                    waiting = True
                    await writer.room()
                    waiting = False
                    writer.put(a_line(seq, "x" * 5000))
                    handed += 1

            tasks.start_soon(send)
            while turns < 200:
                turns = turns + 1 if waiting else 0
                await anyio.sleep(0.001)
            assert handed < 50  # a pipe's fill, the writer's batch, and the room
            readers.append(slow.read_on())

    with a_failing_sync():
        anyio.run(main, backend=backend)
    [reader] = readers
    reader.join()
    assert slow.seqs() == list(range(200))


def a_failing_sync() -> AbstractContextManager[object]:
    """A pipe cannot be synced, which the writer reports at its end."""
    return pytest.raises(RunError, match="Invalid argument")


@pytest.mark.asyncio
async def test_with_an_interval_of_zero_what_is_written_is_synced_at_once(slow: Slow) -> None:
    with a_failing_sync(), anyio.fail_after(60):
        async with open_writer(slow.path, sync=0.0) as writer:
            writer.put(a_line(0))
            await anyio.sleep_forever()  # until the writer finds that a pipe cannot be synced


@pytest.mark.asyncio
async def test_within_the_interval_nothing_is_synced(slow: Slow) -> None:
    shown: list[anyio.Event] = []

    def show(_: Event) -> None:
        anyio.from_thread.run_sync(shown[-1].set)

    with a_failing_sync():
        async with open_writer(slow.path, HOUR, show) as writer:
            for seq in range(5):
                written = anyio.Event()
                shown.append(written)
                writer.put(a_line(seq))
                await written.wait()
            assert writer.failure is None


@pytest.mark.asyncio
async def test_a_log_is_appended_to(tmp_path: Path) -> None:
    crc = None
    for seq in range(3):
        async with open_writer(tmp_path / "log", HOUR, crc=crc) as writer:
            writer.put(a_line(seq))
        crc = Checksums.after((tmp_path / "log").read_bytes()).crc
    assert [event.seq for event in read(tmp_path / "log")] == [0, 1, 2]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_all_is_written_when_the_block_is_cancelled(tmp_path: Path, backend: Literal["asyncio", "trio"]) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with open_writer(tmp_path / "log", HOUR, room=1) as writer:
                for seq in range(1000):
                    writer.put(a_line(seq))
                scope.cancel()
                await writer.room()

    anyio.run(main, backend=backend)
    assert [event.seq for event in read(tmp_path / "log")] == list(range(1000))


@pytest.mark.asyncio
async def test_all_is_written_when_the_block_raises_and_its_error_comes_out_as_it_is(tmp_path: Path) -> None:
    async def fail() -> None:
        async with open_writer(tmp_path / "log", HOUR) as writer:
            for seq in range(1000):
                writer.put(a_line(seq))
            raise ValueError("the run fell over")

    with pytest.raises(ValueError, match=r"^the run fell over$"):
        await fail()
    assert [event.seq for event in read(tmp_path / "log")] == list(range(1000))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_write_that_fails_stops_the_block_with_the_log_and_the_reason(backend: Literal["asyncio", "trio"]) -> None:
    async def main() -> None:
        with anyio.fail_after(60):
            async with open_writer(Path("/dev/full"), HOUR) as writer:
                writer.put(a_line(0))
                await anyio.sleep_forever()

    with pytest.raises(RunError, match="cannot write the log /dev/full: No space left on device; the run was stopped"):
        anyio.run(main, backend=backend)


@pytest.mark.asyncio
async def test_after_a_failed_write_nobody_gets_room_any_more() -> None:
    went_on: list[bool] = []

    async def send_on() -> None:
        async with open_writer(Path("/dev/full"), HOUR) as writer, anyio.create_task_group() as tasks:

            async def send() -> None:
                try:
                    await anyio.sleep_forever()
                finally:  # the block is cancelled, as a write has failed
                    with anyio.move_on_after(0.05, shield=True):
                        await writer.room()
                        went_on.append(True)

            tasks.start_soon(send)
            writer.put(a_line(0))

    with pytest.raises(RunError), anyio.fail_after(60):
        await send_on()
    assert went_on == []


@pytest.mark.asyncio
async def test_a_log_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"cannot write the log {tmp_path}: Is a directory"):
        async with open_writer(tmp_path, HOUR):
            pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_is_cancelled_while_the_log_is_opened_does_not_wait_for_it_for_ever(tmp_path: Path, backend: str) -> None:
    async def main() -> None:
        with anyio.fail_after(30):
            with anyio.CancelScope() as scope:
                scope.cancel()
                async with open_writer(tmp_path / "events.jsonl", 1.0):
                    await anyio.sleep_forever()
            assert scope.cancelled_caught

    anyio.run(main, backend=backend)
