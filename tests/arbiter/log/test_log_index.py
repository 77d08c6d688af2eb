"""The index of a log finds the lines of a problem as reading the whole log does, also after the log has changed."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arbiter.actors.policies import Oracle
from arbiter.actors.ring_setup import Models
from arbiter.log.checksums import Checksums
from arbiter.log.index import LEAST, index_of, index_path
from arbiter.log.lines import Line
from arbiter.log.reader import LOG, LogFile
from arbiter.log.run import Run
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import AnyPayload, CallFailed, Event, RunStarted
from arbiter.protocols.messages import Task
from tests.arbiter.log.test_lines import solve

PROBLEMS = 20
TEXT = "x" * 700


def a_line(seq: int, payload: AnyPayload | None = None) -> bytes:
    line = Line(
        v=2,
        run="r",
        seq=seq,
        mono=float(seq),
        wall=0.0,
        id=f"event {seq}",
        actor="drafter",
        problem=None if payload else f"p{seq % PROBLEMS}",
        payload=payload or CallFailed(TEXT, 1.0),
    )
    return msgspec.json.encode(line) + b"\n"


FIRST = a_line(0, RunStarted(0, "d", {}, {}))
COUNT = LEAST // len(a_line(1)) + 50  # lines of a log whose index is a file


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of a megabyte with 20 problems."""
    (tmp_path / LOG).write_bytes(FIRST + b"".join(map(a_line, range(1, COUNT))))
    return tmp_path / LOG


def scanned(log: Path, problem: str) -> list[Event]:
    return [event for event in LogFile(log) if event.problem == problem]


def test_a_problem_is_found_with_the_events_that_a_whole_reading_finds(log: Path) -> None:
    assert list(LogFile(log).events_of("p7")) == scanned(log, "p7") != []
    assert list(LogFile(log).events_of("nobody")) == []
    assert index_path(log).exists()


def test_an_index_is_used_as_long_as_its_log_is_the_same(log: Path) -> None:
    made = index_of(log)
    written = index_path(log).stat().st_mtime_ns
    assert index_of(log) == made
    assert index_path(log).stat().st_mtime_ns == written


def test_an_index_is_extended_when_its_log_has_grown_and_half_a_line_waits(log: Path) -> None:
    before = index_of(log)
    lines = [a_line(seq) for seq in range(COUNT, COUNT + 3 * PROBLEMS)]
    with log.open("ab") as file:
        file.write(b"".join(lines) + a_line(COUNT + 3 * PROBLEMS)[:30])
    after = index_of(log)
    assert before is not None
    assert after is not None
    assert after.size == before.size + sum(map(len, lines))
    assert list(LogFile(log).events_of("p3")) == scanned(log, "p3")


def test_bytes_that_are_no_text_are_left_to_the_reading_of_the_whole_log(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b'{"problem":"\xff"}\n')
    assert index_of(log) is None
    with pytest.raises(RunError, match=f"line {COUNT + 1}"):
        list(LogFile(log).events_of("p7"))


@pytest.mark.parametrize("damage", ["cut", "other", "no index", "no text"])
def test_a_stale_index_is_made_again(log: Path, damage: str) -> None:
    assert index_of(log) is not None
    whole = log.read_bytes()
    match damage:
        case "cut":
            log.write_bytes(whole[: len(whole) // 2])
        case "other":
            log.write_bytes(FIRST + b"".join(map(a_line, range(1, COUNT + 9))).replace(b"xxx", b"xyz"))
        case "no text":
            index_path(log).write_bytes(b"\x81\xa4tail\xa1\xff")
        case _:
            index_path(log).write_bytes(b"no index")
    assert list(LogFile(log).events_of("p3")) == scanned(log, "p3") != []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_index_is_made_again(log: Path, data: st.DataObject) -> None:
    assert index_of(log) is not None
    content = bytearray(index_path(log).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    index_path(log).write_bytes(content)
    assert list(LogFile(log).events_of("p3")) == scanned(log, "p3") != []


def test_an_index_is_not_made_of_a_log_with_a_wrong_checksum(log: Path) -> None:
    lines = Checksums().added(log.read_bytes()).splitlines(keepends=True)
    assert lines[3].count(b'"problem":"p3"') == 1
    lines[3] = lines[3].replace(b'"problem":"p3"', b'"problem":"p4"')
    log.write_bytes(b"".join(lines))
    with pytest.raises(RunError, match="line 4: the log is damaged here: its checksum is"):
        list(LogFile(log).events_of("p3"))
    assert not index_path(log).exists()


def test_damage_that_is_younger_than_the_index_is_named_if_it_is_in_a_line_that_is_read(log: Path) -> None:
    lines = Checksums().added(log.read_bytes()).splitlines(keepends=True)
    log.write_bytes(b"".join(lines))
    assert list(LogFile(log).events_of("p3")) == scanned(log, "p3") != []
    before = log.stat()
    lines[PROBLEMS + 3] = lines[PROBLEMS + 3].replace(b"xxx", b"xyx", 1)
    log.write_bytes(b"".join(lines))
    os.utime(log, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk does that damages a file
    assert len(list(LogFile(log).events_of("p4"))) > 1
    with pytest.raises(RunError, match=f"line {PROBLEMS + 4}: the log is damaged here: its checksum is"):
        list(LogFile(log).events_of("p3"))


def test_damage_in_the_lines_of_a_problem_is_named_as_when_all_is_read(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"call_failed"', b'"call_broken"')
    log.write_bytes(b"".join(lines))
    with pytest.raises(RunError, match="line 4: the log is damaged here"):
        list(LogFile(log).events_of("p3"))


def test_a_log_that_is_no_json_is_named_by_its_line(log: Path) -> None:
    log.write_bytes(FIRST + b"{\n" + a_line(2))
    with pytest.raises(RunError, match="line 2: the log is damaged here"):
        list(LogFile(log).events_of("p2"))


def test_a_compressed_log_is_read_without_an_index(log: Path) -> None:
    packed = log.with_name(LOG + ".gz")
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert list(LogFile(packed).events_of("p3")) == scanned(log, "p3")
    assert not index_path(packed).exists()


def test_a_folder_that_cannot_be_written_needs_no_index_file(log: Path) -> None:
    index_path(log).mkdir()  # so that no file can have this name
    assert list(LogFile(log).events_of("p3")) == scanned(log, "p3")


def test_the_samples_of_a_problem_are_those_of_the_whole_run(
    a_world: Callable[..., Models], a_task: Callable[..., Task], tmp_path: Path
) -> None:
    tasks = [a_task(str(n), Oracle(0.0), sample=sample) for n in range(3) for sample in (0, 1)]
    solve(tmp_path / LOG, a_world(1), tasks)
    run = Run.open(tmp_path)
    whole = [problem for problem in run.problems() if problem.key[0] == "1"]
    assert [problem.solution() for problem in run.problem("1")] == [problem.solution() for problem in whole]
    assert len(whole) == 2
    assert not index_path(run.path).exists()  # a small log is indexed each time
