"""What disks and clocks do to a run: each has its message, and the resumed run equals an undisturbed one."""

import errno
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.log import lock
from arbiter.log.reader import LOG
from arbiter.log.run import Run
from arbiter.protocols.errors import RunError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.runs import folder as folders
from arbiter.runs.baseline_runs import check_resumable
from arbiter.runs.bench import run_problems
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.folder import open_run, read_records
from arbiter.runs.results import Result, Summary
from benchmarks.silent_watcher import SilentWatcher

Configs = Callable[..., Config]
PROBLEMS = [Problem(str(n), f"question {n}", "7") for n in range(40)]
DAYS_400 = 400 * 86_400


class Watching(SilentWatcher):
    """Calls ``after`` with the number of results after each of them."""

    def __init__(self, after: Callable[[int], object] = lambda _: None) -> None:
        self.count = 0
        self._after = after

    def solved(self, result: Result) -> None:
        self.count += 1
        self._after(self.count)


def write(request: GenerationRequest) -> Generation:
    if request.step == 2:
        return Generation("\\boxed{7}", "end", Usage(5, 4))
    return Generation(f"{request.problem}, step {request.step}", "separator", Usage(5, 4))


@pytest.fixture
def config(a_config: Configs) -> Config:
    return a_config(run_type="draft", limits={"problems": 4})


def solve(config: Config, out: Path, watching: Watching | None = None, seconds: float = 0.0) -> Summary:
    models = Models(draft=ModelHandle(ScriptedGenerator(write, lambda _: seconds)))

    async def main() -> Summary:
        with anyio.fail_after(60):
            async with open_run(config, PROBLEMS, out) as folder:
                return await run_problems(config, PROBLEMS, models, folder, watching or Watching())

    return anyio.run(main)


def transcripts(out: Path) -> dict[str, Any]:
    found = list(read_records(out / "results.jsonl", Result))
    assert len(found) == len(PROBLEMS)
    return {
        result.solution.problem: ([step.kept.text for step in result.solution.steps], result.grade.right)
        for result in found
    }


@pytest.fixture
def undisturbed(config: Config, tmp_path: Path) -> dict[str, Any]:
    solve(config, tmp_path / "undisturbed")
    return transcripts(tmp_path / "undisturbed")


def failing(error: int, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``operation`` that fails for files of this name."""

    def perform(path: Path, *values: Any, **named: Any) -> Any:
        if path.name == name:
            raise OSError(error, os.strerror(error), str(path))
        return operation(path, *values, **named)

    return perform


def without_temporary_files(error: int, name: str) -> Callable[..., Any]:
    """Return ``mkstemp`` that fails where the file ``name`` is replaced."""
    make = tempfile.mkstemp

    def perform(*values: Any, prefix: str, **named: Any) -> Any:
        if prefix == f".{name}-":
            raise OSError(error, os.strerror(error))
        return make(*values, prefix=prefix, **named)

    return perform


def test_a_deleted_folder_is_reported_while_the_run_goes_on(config: Config, tmp_path: Path) -> None:
    out = tmp_path / "run"
    watching = Watching(lambda count: shutil.rmtree(out) if count == 2 else None)
    with pytest.raises(RunError, match=r"events.jsonl was deleted or moved while it was written; the run was stopped"):
        solve(config, out, watching, seconds=0.1)
    assert watching.count < len(PROBLEMS)
    assert not out.exists()


def test_a_moved_folder_is_reported_and_resumed_where_it_is(
    config: Config, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    out, there = tmp_path / "run", tmp_path / "there"

    def move(count: int) -> None:
        if count == 2:
            out.rename(there)
            out.mkdir()
            (out / LOG).write_bytes(b"")  # another process has begun a run in the old place

    with pytest.raises(RunError, match="If its folder was moved, the run can be resumed there"):
        solve(config, out, Watching(move), seconds=0.1)
    requests = sum(1 for event in Run.open(there).events() if event.kind == "call_generated")
    assert requests > 0
    solve(config, there)
    assert transcripts(there) == undisturbed
    answered = [event.cause for event in Run.open(there).events() if event.kind == "call_generated"]
    assert len(answered) == len(set(answered))
    assert (out / LOG).read_bytes() == b""


def test_the_configuration_is_there_before_the_first_line_of_the_log(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    class Killed(BaseException): ...

    out, about = tmp_path / "run", folders.about_run

    def killed(path: Path, one: Config) -> None:
        about(path, one)
        assert not (path / LOG).exists() or not (path / LOG).stat().st_size
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(folders, "about_run", killed)
        with pytest.raises(Killed):
            solve(config, out)
    check_resumable(out)
    solve(config, out)
    assert transcripts(out) == undisturbed


def test_what_was_solved_and_the_summary_are_stored_although_no_descriptor_is_left(
    config: Config, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def use_all(count: int) -> None:
        if count == 3:
            free = os.open(os.devnull, os.O_RDONLY)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))

    try:
        summary = solve(config, tmp_path / "run", Watching(use_all))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (summary.problems, summary.failed) == (len(PROBLEMS), 0)
    assert (tmp_path / "run" / "summary.json").is_file()
    assert transcripts(tmp_path / "run") == undisturbed


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EROFS, "Read-only file system"),
        (errno.EMFILE, r"Too many open files. Raise the limit of the process \(ulimit -n\), or lower limits.problems"),
    ],
)
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("results.jsonl", "the run folder {}"),
        ("config.toml", "{}/config.toml"),
        ("summary.json", "{}/summary.json"),
        (LOG, "the log {}/" + LOG),
    ],
)
def test_a_disk_that_refuses_has_its_reason_and_the_run_is_resumed(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: dict[str, Any],
    error: int,
    reason: str,
    name: str,
    what: str,
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", failing(error, name, Path.open))
        patched.setattr(tempfile, "mkstemp", without_temporary_files(error, name))
        with pytest.raises(RunError, match=rf"^cannot write {what.format(out)}: {reason}"):
            solve(config, out)
    solve(config, out)
    assert transcripts(out) == undisturbed


def test_a_file_that_cannot_be_replaced_is_named_with_the_reason_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "collection.json"
    replace_file(file, b"before")
    monkeypatch.setattr(tempfile, "mkstemp", without_temporary_files(errno.EMFILE, file.name))
    with pytest.raises(RunError, match=rf"^cannot write {file}: Too many open files\. Raise the limit"):
        replace_file(file, b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(file.name, b"before")]


def test_a_place_where_nobody_may_write_is_refused(config: Config) -> None:
    with pytest.raises(RunError, match="cannot write the run folder /proc/run: "):
        solve(config, Path("/proc/run"))


@pytest.mark.parametrize("days", [-DAYS_400, DAYS_400])
def test_a_clock_that_jumps_changes_no_result_and_no_order(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any], days: int
) -> None:
    out = tmp_path / "run"
    wall, wall_ns = time.time, time.time_ns
    stop = Watching(lambda count: shutil.move(out, tmp_path / "moved") if count == 5 else None)
    with pytest.raises(RunError):
        solve(config, out, stop, seconds=0.1)
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: wall() + days)
        patched.setattr(time, "time_ns", lambda: wall_ns() + days * 10**9)
        summary = solve(config, tmp_path / "moved")
    assert transcripts(tmp_path / "moved") == undisturbed
    assert 0 < (summary.wall_seconds or 0) < 60
    events = list(Run.open(tmp_path / "moved").timeline())
    assert [event.mono for event in events] == sorted(event.mono for event in events)
    walls = [event.wall for event in events]
    assert max(walls) - min(walls) > DAYS_400 - 100


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_has_its_own_message(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RunError, match=r"cannot lock the run folder .*: its file system has no locks, .* --out"):
        solve(config, tmp_path / "run")
    assert not (tmp_path / "run" / LOG).exists()


def test_a_lock_that_another_process_holds_is_named(tmp_path: Path) -> None:
    with (
        lock.locked(tmp_path / "sweep" / ".lock", "sweep"),
        pytest.raises(RunError, match=r"another process is writing the sweep .*/sweep: wait until it ends"),
        lock.locked(tmp_path / "sweep" / ".lock", "sweep"),
    ):
        pass
