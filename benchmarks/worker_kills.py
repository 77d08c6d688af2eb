"""Kill workers, the ledger and the driver of a run on a real Ray cluster, and count what is lost or paid again.

    python benchmarks/worker_kills.py [--kills 100] [--problems 2000] [--workers 3] [--seed 0] [--json]

Needs the extra ``ray``. The cluster has two nodes on this machine. Where this process may mount, the second one does
not see the run folder, so that its workers send their log to the ledger. A server with fixed answers and delays plays
the models. Some workers are stopped (SIGSTOP) past the lease and go on afterwards. A driver that was killed is followed
by ``arbiter bench --resume``. After the kills the run goes on to its end.

``lost`` are problems without a result, ``double`` those with several, ``failed`` those that failed. ``again`` counts
requests that a worker made although their answer was in the log when it claimed the problem. ``in_flight`` counts other
requests with two answers: of a worker that stood still, or on the way when it was killed.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import msgspec
from child_environment import child_environment
from cyclopts import Parameter
from fixed_server import QUESTION
from hidden_node import can_hide, hidden_node
from throughput import served

from arbiter.log.reader import LogFile
from arbiter.log.segments import LEDGER, segments_of
from arbiter.protocols.events import CallCancelled, Outcome, ProblemClaimed
from arbiter.runs.folder import read_records
from arbiter.runs.results import Result

LEASE = 4.0
SHARES = {"worker": 0.4, "ledger": 0.2, "stop": 0.2, "driver": 0.2}
PAUSE = (0.5, 3.0)  # seconds between two kills
ON_DISK = 0.05  # seconds after which an answer is in the file for certain
PATIENCE = 1800.0  # seconds for the rest of the run


class Figures(msgspec.Struct):
    """Counts: see the top of this file. ``hidden``: one node did not see the run folder."""

    kills: dict[str, int]
    hidden: bool
    sessions: int
    seconds: float
    results: int
    lost: int
    double: int
    failed: int
    again: int
    in_flight: int


def main(
    *,
    kills: int = 100,
    problems: int = 2000,
    workers: int = 3,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Kill ``kills`` processes of one run, and print the counts."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray waits for the machine's own address
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    with tempfile.TemporaryDirectory() as name, served("--delays") as port:
        folder = Path(name) / "runs"
        folder.mkdir()
        config = write_files(Path(name), port, problems)
        with cluster(folder) as (address, hidden):
            begun = time.monotonic()
            killed, sessions = _kill_all(config, folder / "run", address, (workers, kills), random.Random(seed))
            seconds = time.monotonic() - begun
        figures = counted(folder / "run", problems)
        found = Figures(dict(killed), hidden, sessions, round(seconds, 1), **figures)
    text = msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else str(found)
    sys.stdout.write(text + "\n")


def write_files(folder: Path, port: int, problems: int) -> Path:
    """Write the problems and the configuration of a run against the server at ``port``. Return the latter."""
    data = folder / "problems.jsonl"
    rows = ({"id": str(number), "question": f"{QUESTION} {number}", "answer": "42"} for number in range(problems))
    data.write_bytes(msgspec.json.Encoder().encode_lines(rows))
    model = f'backend = "http"\nurl = "http://127.0.0.1:{port}"\nprompt = "{{question}}"\nin_flight = 64\n'
    tables = "".join(f'[models.{name}]\nmodel = "{name}"\n{model}' for name in ("draft", "target", "prm"))
    path = folder / "kills.toml"
    path.write_text(
        f'run_type = "rsd"\n[data]\nsource = "{data}"\n[limits]\nproblems = 24\n[ray]\nlease = {LEASE}\n'
        f"num_cpus = 0.5\n{tables}",
        encoding="utf-8",
    )
    return path


@contextmanager
def cluster(folder: Path) -> Generator[tuple[str, bool]]:
    """Start a cluster of two nodes. Yield its address, and whether the second node does not see ``folder``."""
    found: Any = import_module("ray.cluster_utils").Cluster(
        initialize_head=True, shutdown_at_exit=False, head_node_args={"num_cpus": 2}
    )
    hides = can_hide()
    with ExitStack() as ending:
        ending.callback(found.shutdown)
        if hides:
            ending.enter_context(hidden_node(found, folder, 2))
        else:
            found.add_node(num_cpus=2)
        yield found.address, hides


def _kill_all(
    config: Path, run: Path, address: str, how_many: tuple[int, int], chance: random.Random
) -> tuple[Counter[str], int]:
    """Kill processes of a run, and let it end. Return the kills of each kind, and the number of drivers."""
    workers, kills = how_many
    killed, sessions, driver = Counter[str](), 0, None
    while killed.total() < kills:
        if driver is None:
            driver, sessions = _driver(config, run, address, workers), sessions + 1
        time.sleep(chance.uniform(*PAUSE))
        if driver.poll() is not None:
            if driver.returncode == 0:
                return killed, sessions
            driver = None
            continue
        if not _works(run) or not _processes("ray::RayWorker"):
            continue
        kind = chance.choices(list(SHARES), list(SHARES.values()))[0]
        if kind == "driver":
            driver.kill()
            driver.wait()
            driver = None
        elif not _kill(kind, chance):
            continue
        killed[kind] += 1
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if driver is None:
            driver, sessions = _driver(config, run, address, workers), sessions + 1
        if driver.wait(PATIENCE) == 0:
            return killed, sessions
        driver = None
    raise SystemExit("the run did not end")


def _works(run: Path) -> bool:
    """Return whether a worker of the newest session has begun a problem: before, a kill tries nothing."""
    segments = segments_of(run / "events.jsonl")
    newest = max((segment.session for segment in segments), default=0)
    return any(
        segment.path.stat().st_size for segment in segments if segment.session == newest and segment.worker != LEDGER
    )


def _driver(config: Path, run: Path, address: str, workers: int) -> subprocess.Popen[bytes]:
    begun = (run / "config.toml").exists()
    command = [sys.executable, "-m", "arbiter", "bench"]
    command += ["--resume", str(run)] if begun else [str(config), "--out", str(run)]
    command += ["--workers", str(workers), "--ray", address]
    errors = (run.parent.parent / "driver.txt").open("ab")
    with errors:
        return subprocess.Popen(command, stdout=errors, stderr=errors, env=child_environment())  # noqa: S603 - ours


def _kill(kind: str, chance: random.Random) -> bool:
    """Kill or stop a process of the run. Return whether there was one."""
    title = "ray::RayLedger" if kind == "ledger" else "ray::RayWorker"
    found = _processes(title)
    if not found:
        return False
    process = chance.choice(found)
    if kind != "stop":
        return _signalled(process, signal.SIGKILL)
    if not _signalled(process, signal.SIGSTOP):
        return False
    time.sleep(LEASE + 1.5)
    _signalled(process, signal.SIGCONT)
    return True


def _processes(title: str) -> list[int]:
    return [process for process in _descendants() if _title(process).startswith(title)]


def _signalled(process: int, number: signal.Signals) -> bool:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


def _descendants() -> Iterator[int]:
    """Yield the processes that this one started, directly or not."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
    for process in parents:
        above = process
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and process != above:
            yield process


def _title(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def counted(run: Path, problems: int) -> dict[str, int]:
    """Return what the run folder says, by the names of ``Figures``."""
    results = Counter[str]()
    failed = 0
    for result in read_records(run / "results.jsonl", Result):
        results[result.solution.problem] += 1
        failed += result.solution.error is not None
    again, in_flight = paid_again(run / "events.jsonl")
    return {
        "results": len(results),
        "lost": problems - len(results),
        "double": sum(count > 1 for count in results.values()),
        "failed": failed,
        "again": again,
        "in_flight": in_flight,
    }


def paid_again(log: Path) -> tuple[int, int]:
    """Return how many requests were made although their answer was in the log, and how many others have two answers.

    A worker knows what was in the log when it claimed the problem.
    """
    answers: dict[str, list[tuple[float, float]]] = {}
    for segment in segments_of(log):
        claims: dict[str, float] = {}
        for event in () if segment.worker == LEDGER else LogFile(segment.path):
            if isinstance(event.payload, ProblemClaimed):
                claims[event.payload.claimed] = event.wall
            elif isinstance(event.payload, Outcome) and not isinstance(event.payload, CallCancelled):
                claimed = claims.get(event.problem or "", event.wall)
                answers.setdefault(event.cause or event.id, []).append((event.wall, claimed))
    again = several = 0
    for one in answers.values():
        first, *others = sorted(one)
        again += sum(claimed > first[0] + ON_DISK for _, claimed in others)
        several += len(others)
    return again, several - again


if __name__ == "__main__":
    cyclopts.App(default_command=main)()
