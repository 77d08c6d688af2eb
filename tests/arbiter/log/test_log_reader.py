"""A log is read completely, up to an incomplete last line, or refused with the number of the damaged line."""

import bz2
import gzip
import lzma
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.log.reader import LOG, LogFile, log_path
from arbiter.log.run import Run
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import SCHEMA, AnyPayload, CallCancelled, Event, RunEnded, RunStarted


def a_line(seq: int, payload: AnyPayload | None = None, **fields: Any) -> bytes:
    shown = payload or (CallCancelled(0.5) if seq else RunStarted(0, "d", {}, {}))
    given: dict[str, Any] = {"v": SCHEMA, "run": "r", "mono": 0.0, "wall": 0.0, "id": str(seq), "actor": "a", **fields}
    return msgspec.json.encode(Event(seq=seq, payload=shown, **given)) + b"\n"


LINES = [a_line(seq) for seq in range(5)]


@pytest.fixture
def a_log(tmp_path: Path) -> Callable[..., LogFile]:
    """A log with these bytes."""

    def build(*parts: bytes, name: str = LOG) -> LogFile:
        (tmp_path / name).write_bytes(b"".join(parts))
        return LogFile(tmp_path / name)

    return build


def seqs(log: LogFile) -> list[int]:
    return [event.seq for event in log]


def refusal(log: LogFile) -> str:
    with pytest.raises(RunError) as caught:
        list(log)
    return str(caught.value)


def test_a_log_is_read_in_its_order(a_log: Callable[..., LogFile]) -> None:
    log = a_log(*LINES)
    assert (seqs(log), log.torn, log.whole) == ([0, 1, 2, 3, 4], 0, sum(map(len, LINES)))


@pytest.mark.parametrize("size", range(1, len(LINES[2])))
@pytest.mark.slow
def test_a_torn_last_line_is_left_out_and_counted(a_log: Callable[..., LogFile], size: int) -> None:
    log = a_log(*LINES[:2], LINES[2][:size])
    assert (seqs(log), log.torn, log.whole) == ([0, 1], size, len(LINES[0]) + len(LINES[1]))


def test_zeros_that_a_power_cut_leaves_at_the_end_are_a_torn_tail(a_log: Callable[..., LogFile]) -> None:
    log = a_log(*LINES, LINES[1][:20], bytes(4096))
    assert (seqs(log), log.torn) == ([0, 1, 2, 3, 4], 20 + 4096)


def test_an_empty_log_has_no_events(a_log: Callable[..., LogFile]) -> None:
    log = a_log()
    assert (seqs(log), log.torn) == ([], 0)


@pytest.mark.parametrize("damage", [b"\n", b"{\n", b"\xff\n", bytes(50) + b"\n", LINES[1][5:], b'{"v":1}\n'])
def test_damage_before_the_end_is_refused_by_its_line(a_log: Callable[..., LogFile], damage: bytes) -> None:
    log = a_log(*LINES[:2], damage, *LINES[3:])
    assert refusal(log).startswith(f"{log.path}, line 3: the log is damaged here: ")


def test_a_damaged_last_line_that_is_whole_is_refused_as_well(a_log: Callable[..., LogFile]) -> None:
    assert "line 3: the log is damaged here" in refusal(a_log(*LINES[:2], b"{}\n"))


def test_what_comes_before_the_damage_can_be_read(a_log: Callable[..., LogFile]) -> None:
    log = iter(a_log(*LINES[:2], b"{\n"))
    assert [next(log).seq, next(log).seq] == [0, 1]


def test_a_missing_line_is_told(a_log: Callable[..., LogFile]) -> None:
    found = "line 3: the log is damaged here: the line with seq 2 is missing, or this one is damaged: it has seq 3"
    assert f"{found}. Restore it from a copy" in refusal(a_log(*LINES[:2], *LINES[3:]))


def test_a_line_of_another_run_is_told(a_log: Callable[..., LogFile]) -> None:
    told = refusal(a_log(*LINES[:2], a_line(2, run="other")))
    assert "line 3: the log is damaged here: it belongs to the run other, the lines before it to r. " in told


@pytest.mark.parametrize("line", [a_line(0, v=3), b'{"v":3,"new":"field","seq":0}\n'])
def test_another_version_of_the_format_is_refused_by_name(a_log: Callable[..., LogFile], line: bytes) -> None:
    assert "is a log of schema version 3, but this Arbiter reads only versions 1 and 2" in refusal(a_log(line))


@pytest.mark.parametrize(("ending", "packed"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_a_compressed_log_is_read_as_it_is(
    a_log: Callable[..., LogFile], tmp_path: Path, ending: str, packed: Callable[[bytes], bytes]
) -> None:
    a_log(packed(b"".join(LINES)), name=LOG + ending)
    assert [event.seq for event in Run.open(tmp_path).events()] == [0, 1, 2, 3, 4]
    assert [event.seq for event in Run.open(tmp_path / (LOG + ending)).events()] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_a_damaged_compressed_log_is_named(a_log: Callable[..., LogFile], ending: str) -> None:
    log = a_log(b"no archive", name=LOG + ending)
    assert refusal(log).startswith(f"cannot read {log.path} after line 0: ")


@pytest.mark.parametrize(("ending", "packed"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_half_a_compressed_log_is_named(
    a_log: Callable[..., LogFile], ending: str, packed: Callable[[bytes], bytes]
) -> None:
    log = a_log(packed(b"".join(LINES))[:-20], name=LOG + ending)
    assert refusal(log).startswith(f"cannot read {log.path} after line ")


def test_a_folder_without_a_log_and_no_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run: there is no events\.jsonl in it"):
        log_path(tmp_path)
    with pytest.raises(RunError, match=r"there is no run '.*nowhere'"):
        log_path(tmp_path / "nowhere")


@pytest.mark.parametrize("first", [b"", a_line(0, RunEnded())])
def test_a_log_that_does_not_begin_as_a_run_does_is_no_run(a_log: Callable[..., LogFile], first: bytes) -> None:
    with pytest.raises(RunError, match="does not begin with the event run_started"):
        Run.open(a_log(first).path)


def test_a_log_can_be_followed_while_it_grows_until_its_end(a_log: Callable[..., LogFile]) -> None:
    """The writer continues only when the reader has read all that is there: half a line does not count."""
    log = a_log(LINES[0])
    seen: list[int] = []
    read = threading.Semaphore(0)

    def write() -> None:
        with log.path.open("ab", buffering=0) as file:
            for seq in range(1, 20):
                read.acquire(timeout=60)
                line = LINES[1] if seq == 1 else a_line(seq, RunEnded() if seq == 19 else None)
                file.write(line[: seq * 3])
                file.write(line[seq * 3 :])

    writer = threading.Thread(target=write)
    writer.start()
    for event in log.follow(pause=0.001):
        seen.append(event.seq)
        read.release()
    writer.join()
    assert seen == list(range(20))


def test_a_run_of_several_sessions_is_followed_to_the_end_of_the_newest(a_log: Callable[..., LogFile]) -> None:
    log = a_log(LINES[0], a_line(1, RunEnded(interrupted=True)), a_line(2, RunStarted(1, "d", {}, {})), LINES[3])
    with log.path.open("ab") as file:
        file.write(a_line(4, RunEnded()))
    assert [event.seq for event in log.follow(pause=0.001)] == [0, 1, 2, 3, 4]


def test_a_damaged_line_is_refused_while_following(a_log: Callable[..., LogFile]) -> None:
    with pytest.raises(RunError, match="line 2: the log is damaged here"):
        list(a_log(LINES[0], b"{\n").follow(pause=0.001))
