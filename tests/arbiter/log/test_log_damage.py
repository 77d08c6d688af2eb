"""Damage of a log is named by its line, whoever reads the log, and what comes before it can be kept."""

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.log.reader import LOG, LogFile
from arbiter.log.run import Run
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Event
from arbiter.runs.results import Result
from tests.changed_logs import lines_of

PROBLEMS = [Problem(str(n), f"question {n}", "7") for n in range(3)]
PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


class Recorded:
    """A run whose log a test damages: a copy of it for each example."""

    def __init__(self, folder: Path, resume: Callable[[Path], dict[tuple[str, int], Result]]) -> None:
        self._folder = folder
        self.resume = resume
        self.results = resume(folder / "whole")
        self.log = (folder / "whole" / LOG).read_bytes()
        self.lines = self.log.splitlines(keepends=True)
        self.events = list(LogFile(folder / "whole" / LOG))

    def copy(self, content: bytes, name: str = LOG) -> Path:
        """A folder with this log alone."""
        copy = self._folder / f"copy-{len(list(self._folder.iterdir()))}"
        copy.mkdir()
        (copy / name).write_bytes(content)
        return copy


@pytest.fixture(scope="module")
def recorded(
    a_config: Callable[..., Config], a_world: Callable[..., Models],
    run_in: Callable[..., dict[tuple[str, int], Result]], tmp_path_factory: pytest.TempPathFactory,
) -> Recorded:  # fmt: skip
    config = a_config(run_type="router", limits={"max_steps": 3, "problems": 2}, thresholds={"router": 0.4})
    return Recorded(tmp_path_factory.mktemp("runs"), lambda folder: run_in(folder, config, a_world(1), PROBLEMS))


def changed(content: bytes, at: int, by: int) -> bytes:
    return content[:at] + bytes([content[at] ^ by]) + content[at + 1 :]


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(RunError) as caught:
        read()
    return str(caught.value)


@given(st.data())
@pytest.mark.slow
def test_one_changed_byte_is_named_by_its_line_to_every_reader(recorded: Recorded, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(recorded.log) - 1))
    path = recorded.copy(changed(recorded.log, at, data.draw(st.integers(1, 255)))) / LOG
    line = recorded.log.count(b"\n", 0, at) + 1
    named = f"{path}, line {line}: the log is damaged here: "
    assert named in refusal(lambda: list(LogFile(path)))
    assert named in refusal(lambda: list(LogFile(path).events_of("0")))
    assert named in refusal(lambda: recorded.resume(path.parent))


@pytest.mark.parametrize("ending", PACKED)
@given(data=st.data())
def test_one_changed_byte_of_a_compressed_log_is_named_or_changes_nothing_that_is_read(
    recorded: Recorded, ending: str, data: st.DataObject
) -> None:
    packed = PACKED[ending](recorded.log)
    content = changed(packed, data.draw(st.integers(0, len(packed) - 1)), data.draw(st.integers(1, 255)))
    path = recorded.copy(content, LOG + ending) / (LOG + ending)
    found: list[Event] = []
    try:
        found += LogFile(path)
    except RunError as error:
        assert str(path) in str(error)  # noqa: PT017 - the damage may also be in bytes that nobody reads
    else:
        assert found == recorded.events


@given(data=st.data())
def test_a_cut_log_is_read_up_to_the_cut_and_has_no_end(recorded: Recorded, data: st.DataObject) -> None:
    size = data.draw(st.integers(len(recorded.lines[0]), len(recorded.log) - 1))
    run = Run.open(recorded.copy(recorded.log[:size]))
    found = list(run.events())
    assert found == recorded.events[: len(found)]
    assert (run.torn > 0, run.ended) == (not recorded.log[:size].endswith(b"\n"), False)


def test_a_last_line_that_lost_its_line_feed_to_another_byte_is_not_taken_for_half_a_line(recorded: Recorded) -> None:
    path = recorded.copy(changed(recorded.log, len(recorded.log) - 1, 1)) / LOG
    named = (
        f"{path}, line {len(recorded.lines)}: the log is damaged here: it ends with b'\\x0b' in place of a line feed"
    )
    assert named in refusal(lambda: list(LogFile(path)))


@pytest.mark.parametrize(("ending", "unpack"), [(".gz", "gzip -cd"), (".bz2", "bzip2 -cd"), (".xz", "xz -cd")])
def test_what_comes_before_the_damage_of_a_compressed_log_is_kept_in_a_plain_one(
    recorded: Recorded, ending: str, unpack: str
) -> None:
    damaged = changed(recorded.log, len(b"".join(recorded.lines[:5])) + 20, 1)
    path = recorded.copy(PACKED[ending](damaged), LOG + ending) / (LOG + ending)
    command = f"{unpack} {path} | head -n 5 > {path.parent / LOG}"
    assert f"keep what comes before it ({command}) and resume the run" in refusal(lambda: list(LogFile(path)))
    if which(unpack.partition(" ")[0]):
        subprocess.run(["sh", "-c", command], check=True)
        assert (path.parent / LOG).read_bytes() == b"".join(recorded.lines[:5])
        assert recorded.resume(path.parent) == recorded.results


@pytest.mark.parametrize("place", [1, 5, -1])
def test_what_comes_before_the_damage_can_be_kept_and_resumed(recorded: Recorded, place: int) -> None:
    at = len(b"".join(recorded.lines[:place])) + 20
    folder = recorded.copy(changed(recorded.log, at, 1))
    before = len(recorded.lines[:place])
    assert f"keep what comes before it (head -n {before}) and resume" in refusal(lambda: recorded.resume(folder))
    assert (folder / LOG).read_bytes() == changed(recorded.log, at, 1)
    (folder / LOG).write_bytes(b"".join(recorded.lines[:before]))
    assert recorded.resume(folder) == recorded.results


@pytest.mark.parametrize(
    ("order", "seq"),
    [([0, 1, 2, 3, 5, 6], 5), ([0, 1, 2, 3, 3, 4, 5], 3), ([0, 1, 2, 3, 5, 4, 6], 5)],
    ids=["missing", "doubled", "swapped"],
)
def test_lines_that_are_not_in_their_order_are_named_with_their_numbers(
    recorded: Recorded, order: list[int], seq: int
) -> None:
    path = recorded.copy(b"".join(recorded.lines[number] for number in order)) / LOG
    named = f"line 5: the log is damaged here: the line with seq 4 is missing, or this one is damaged: it has seq {seq}"
    assert named in refusal(lambda: list(LogFile(path)))


def test_a_line_of_another_run_with_the_right_number_is_named(recorded: Recorded) -> None:
    other = recorded.copy(b"")
    recorded.resume(other)
    lines = (other / LOG).read_bytes().splitlines(keepends=True)
    path = recorded.copy(b"".join([*recorded.lines[:4], *lines[4:]])) / LOG
    assert f"{path}, line 5: the log is damaged here: its checksum is " in refusal(lambda: list(LogFile(path)))


def test_a_log_without_checksums_is_read_and_continued_with_them(recorded: Recorded) -> None:
    old = lines_of(recorded.copy(recorded.log) / LOG)
    folder = recorded.copy(b"".join(old[: len(old) // 2]))
    log = LogFile(folder / LOG)
    assert len(list(log)) > 0
    assert (log.lines, log.unchecked) == (len(old) // 2, len(old) // 2)
    assert recorded.resume(folder) == recorded.results
    assert len(list(log)) > 0
    assert (log.unchecked, log.lines > log.unchecked) == (len(old) // 2, True)
    content = (folder / LOG).read_bytes()
    (folder / LOG).write_bytes(changed(content, len(content) - 100, 1))
    assert f"line {log.lines}: the log is damaged here" in refusal(lambda: list(log))
