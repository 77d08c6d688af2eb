"""Runs that are killed with SIGKILL repeatedly and resumed each time."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from arbiter.log.reader import LOG, LogFile
from arbiter.protocols.events import CallFailed, CallGenerated, CallScored, Event
from arbiter.runs.folder import read_records
from arbiter.runs.results import Result

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).parent / "killed_run.py"
SECONDS = 120.0
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def start(command: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
    """Start a process in a separate process group."""
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def run_to_end(command: Sequence[str | Path]) -> str:
    """Wait for the end of a process and return its standard error."""
    process = start(command)
    _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, told.decode()
    return told.decode()


def kill_at(size: int, log: Path, command: Sequence[str | Path]) -> None:
    """Run until the log has a given size and has grown by a line or two, then kill the whole process group."""
    size = max(size, (log.stat().st_size if log.exists() else 0) + 3000)
    process = start(command)
    until = time.monotonic() + SECONDS
    while not log.exists() or log.stat().st_size < size:
        assert process.poll() is None, f"it ended before the log had {size} bytes: {process.communicate()[1].decode()}"
        assert time.monotonic() < until
        time.sleep(0.0005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGKILL


def moments(whole: int, kills: int, seed: int) -> list[int]:
    """Sizes of the log, spread over the run."""
    draw = random.Random(seed)
    found = sorted(draw.randrange(int(0.95 * whole)) for _ in range(kills))
    print(f"seed {seed}: killed at {found} of {whole} bytes")  # noqa: T201 - of a failed test
    return found


def solved(folder: Path) -> dict[str, Any]:
    """The transcripts, finish reasons and grades."""
    return {
        result.solution.problem: (
            [(step.kept.author, step.kept.text) for step in result.solution.steps],
            result.solution.finish_reason,
            result.grade,
        )
        for result in read_records(folder / "results.jsonl", Result)
    }


def answers(events: Sequence[Event]) -> dict[str | None, int]:
    """The line of the outcome of each request that has one."""
    return {
        event.cause: event.seq for event in events if isinstance(event.payload, CallGenerated | CallScored | CallFailed)
    }


def check(events: list[Event], sessions: int) -> None:
    """Check that the log is consistent, with one end per problem and no request after its answer."""
    numbers = [event.seq for event in events]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(numbers[-1] + 1))
    assert [event.kind for event in events].count("run_started") == sessions
    for problem in {event.problem for event in events}:
        times = [event.mono for event in events if event.problem == problem]
        assert times == sorted(times)
    assert set(Counter(event.problem for event in events if event.kind == "problem_ended").values()) <= {1}
    known = answers(events)
    again = [
        event.id for event in events if event.kind == "call_started" and event.seq > known.get(event.id, len(events))
    ]
    assert again == []


@pytest.mark.nightly
def test_a_run_that_is_killed_twenty_times_is_the_run_that_was_never_killed(tmp_path: Path) -> None:
    undisturbed, run, asked = tmp_path / "undisturbed", tmp_path / "run", tmp_path / "asked"
    run_to_end([sys.executable, DRIVER, undisturbed, tmp_path / "asked before"])
    whole, log, command = (undisturbed / LOG).stat().st_size, run / LOG, [sys.executable, DRIVER, run, asked]
    known, made = set[str | None](), 0
    for session, size in enumerate(moments(whole, 20, seed=1), start=1):
        kill_at(size, log, command)
        requests = asked.read_text().split() if asked.exists() else []
        assert known.isdisjoint(requests[made:])
        events = list(LogFile(log))
        check(events, sessions=session)
        known, made = set(answers(events)), len(requests)
    run_to_end(command)
    check(list(LogFile(log)), sessions=21)
    assert known.isdisjoint(asked.read_text().split()[made:])
    assert solved(run) == solved(undisturbed)
    assert len(solved(run)) == 40


@pytest.mark.nightly
def test_a_pocket_run_that_is_killed_twice_is_the_run_that_was_never_killed(tmp_path: Path) -> None:
    """The pocket models repeat their answers, whatever else was in their batch."""
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    arbiter = Path(sys.executable).parent / "arbiter"
    command = [arbiter, "bench", "pocket", "--limit", "12", "--out"]
    run_to_end([*command, undisturbed])
    for session, size in enumerate(moments((undisturbed / LOG).stat().st_size, 2, seed=2), start=1):
        kill_at(size, run / LOG, [*command, run])
        check(list(LogFile(run / LOG)), sessions=session)
    printed = run_to_end([arbiter, "bench", "--resume", run])
    check(list(LogFile(run / LOG)), sessions=3)
    assert "resuming the run: " in printed
    assert solved(run) == solved(undisturbed)


def test_a_killed_process_leaves_its_run_to_the_next_and_a_living_one_does_not(tmp_path: Path) -> None:
    run, command = tmp_path / "run", [sys.executable, DRIVER, tmp_path / "run", tmp_path / "asked"]
    first = start(command)
    while not (run / LOG).exists() or (run / LOG).stat().st_size < 1000:
        assert first.poll() is None
        time.sleep(0.0005)
    os.killpg(first.pid, signal.SIGSTOP)
    second = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert second.returncode != 0
    assert f"RunError: another process is writing the run {run}" in second.stderr
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    run_to_end(command)
    assert len(solved(run)) == 40


@pytest.mark.parametrize("size", [3_000, 100_000])
def test_a_full_disk_stops_a_run_which_can_be_continued(tmp_path: Path, size: int) -> None:
    run, command = tmp_path / "run", [sys.executable, DRIVER, tmp_path / "run", tmp_path / "asked"]
    ended = subprocess.run([*command, str(size)], capture_output=True, text=True, timeout=SECONDS, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert last.endswith(f"cannot write the log {run / LOG}: File too large; the run was stopped, and can be resumed")
    requests = (tmp_path / "asked").read_text().split()
    known = answers(list(LogFile(run / LOG)))
    run_to_end(command)
    assert known.keys().isdisjoint((tmp_path / "asked").read_text().split()[len(requests) :])
    run_to_end([sys.executable, DRIVER, tmp_path / "undisturbed", tmp_path / "asked before"])
    assert solved(run) == solved(tmp_path / "undisturbed")
