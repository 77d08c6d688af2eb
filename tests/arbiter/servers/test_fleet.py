"""Servers as real processes: they start, restart, and leave no process behind."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from arbiter.protocols.errors import BackendError, RunError
from arbiter.servers.fleet import Fleet, Patience, leashed, open_fleet, stop
from arbiter.servers.plan_types import Launch

ALaunch = Callable[..., Launch]
Body = Callable[[Fleet], Awaitable[None]]
QUICK = Patience(first=0.01, longest=0.05, look=0.05, figures=0.05, grace=1.0)
LONG = 60  # seconds; no test needs as many


def with_fleet(launches: list[Launch], logs: Path, body: Body, notices: list[str] | None = None) -> None:
    async def run() -> None:
        lines: list[str] = [] if notices is None else notices
        with anyio.fail_after(LONG):
            async with open_fleet(launches, logs, (), lines.append, QUICK) as fleet:
                await body(fleet)

    anyio.run(run)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the condition depends on other processes
        await anyio.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def request(launch: Launch, method: str, path: str) -> int:
    """Request a page and return its status; 0 without an answer."""
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection(launch.host, launch.port, timeout=5)
        connection.request(method, path)
        return connection.getresponse().status
    return 0


def answers(launch: Launch) -> bool:
    return request(launch, "GET", "/ready") == 200


async def die(launch: Launch) -> None:
    await anyio.to_thread.run_sync(request, launch, "POST", "/die")


def test_a_server_is_ready_when_it_says_so_and_its_figures_are_read(a_launch: ALaunch, tmp_path: Path) -> None:
    async def body(fleet: Fleet) -> None:
        await fleet.ready()
        [server] = fleet.servers
        assert server.state == "ready"
        await until(lambda: server.figures.running == 3.0)
        assert server.figures.queued == 2.0

    with_fleet([a_launch()], tmp_path, body)


def test_a_log_begins_with_the_command(a_launch: ALaunch, tmp_path: Path) -> None:
    launch = a_launch()
    with_fleet([launch], tmp_path / "new" / "folder", lambda fleet: fleet.ready())
    assert (tmp_path / "new" / "folder" / "draft.log").read_text().startswith(f"$ {launch.command[0]}")


@pytest.mark.slow
def test_a_server_that_dies_is_started_again(a_launch: ALaunch, tmp_path: Path) -> None:
    launch, notices = a_launch(), list[str]()

    async def body(fleet: Fleet) -> None:
        await fleet.ready()
        [server] = fleet.servers
        for starts in (2, 3):
            await die(launch)
            await until(lambda starts=starts: server.starts == starts and server.state == "ready")
        assert answers(launch)

    with_fleet([launch], tmp_path, body, notices)
    assert sum("ended with status 3; it restarts in" in line for line in notices) == 2
    assert (tmp_path / "draft.log").read_text().count("$ ") == 3


def test_a_server_that_is_killed_comes_back_as_well(a_launch: ALaunch, tmp_path: Path) -> None:
    launch, notices = a_launch(), list[str]()

    async def body(fleet: Fleet) -> None:
        await fleet.ready()
        [server] = fleet.servers
        shared = server.process
        assert shared is not None
        os.kill(shared.pid, signal.SIGKILL)
        await until(lambda: server.starts > 1 and server.state == "ready")

    with_fleet([launch], tmp_path, body, notices)
    assert "was killed by signal 9" in " ".join(notices)


@pytest.mark.slow
def test_a_server_that_is_never_ready_ends_all_with_the_end_of_its_log(a_launch: ALaunch, tmp_path: Path) -> None:
    good = a_launch("target")
    with pytest.raises(BackendError, match=r"draft ended 5 times before it was ready") as refused:
        with_fleet([good, a_launch("draft", "fails")], tmp_path, lambda _: anyio.sleep_forever())
    assert "no weights to be found" in str(refused.value)
    assert not answers(good)


def test_a_server_starts_after_those_that_it_waits_for(a_launch: ALaunch, tmp_path: Path) -> None:
    notices: list[str] = []
    launches = [a_launch("second", after=("first",)), a_launch("first")]
    with_fleet(launches, tmp_path, lambda fleet: fleet.ready(), notices)
    assert [line.split()[0] for line in notices] == ["first", "second"]


@pytest.mark.parametrize("what", [(), ("stubborn",)])
@pytest.mark.slow
def test_nothing_is_left_when_the_block_ends(a_launch: ALaunch, tmp_path: Path, what: tuple[str, ...]) -> None:
    child, launches = tmp_path / "child", [a_launch("draft", *what), a_launch("target", *what)]
    launches.append(a_launch("prm", f"parent:{child}", *what))
    with_fleet(launches, tmp_path, lambda fleet: fleet.ready())
    assert not any(map(answers, launches))
    assert not lives(int(child.read_text()))


def test_nothing_is_left_when_the_block_raises(a_launch: ALaunch, tmp_path: Path) -> None:
    launch = a_launch()

    async def body(fleet: Fleet) -> None:
        await fleet.ready()
        raise ZeroDivisionError

    with pytest.raises(BaseExceptionGroup) as raised:
        with_fleet([launch], tmp_path, body)
    assert raised.value.subgroup(ZeroDivisionError)
    assert not answers(launch)


def test_what_a_dead_server_leaves_is_ended_before_it_starts_again(a_launch: ALaunch, tmp_path: Path) -> None:
    child = tmp_path / "child"
    launch = a_launch("draft", f"parent:{child}")

    async def body(fleet: Fleet) -> None:
        await fleet.ready()
        first = int(await anyio.Path(child).read_text())
        await die(launch)
        await until(lambda: fleet.servers[0].starts == 2)
        assert not lives(first)

    with_fleet([launch], tmp_path, body)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_servers_end_with_a_supervisor_that_is_killed(a_launch: ALaunch, tmp_path: Path) -> None:
    launch, child = a_launch("draft", f"parent:{tmp_path / 'child'}"), tmp_path / "child"
    program = (
        "import anyio, msgspec, sys\n"
        "from pathlib import Path\n"
        "from arbiter.servers.fleet import open_fleet\n"
        "from arbiter.servers.plan import Launch\n"
        "async def main():\n"
        "    launch = msgspec.json.decode(sys.argv[1], type=Launch)\n"
        "    async with open_fleet([launch], Path(sys.argv[2]), (), lambda line: print(line, flush=True)):\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    encoded = msgspec.json.encode(launch).decode()
    with subprocess.Popen(
        [sys.executable, "-c", program, encoded, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        assert "is ready" in up.stdout.readline()
        up.kill()
    anyio.run(partial(_gone, launch, int(child.read_text())))


async def _gone(launch: Launch, child: int) -> None:
    with anyio.fail_after(LONG):
        await until(lambda: not answers(launch) and not lives(child))


def test_a_folder_for_logs_that_cannot_be_made_is_refused(a_launch: ALaunch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--logs"):
        with_fleet([a_launch()], tmp_path / "file", lambda fleet: fleet.ready())


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_a_leashed_commands_exit_status_is_its_own(code: str, status: int) -> None:
    async def run() -> int:
        process = await leashed([sys.executable, "-c", code], os.environ)
        return await process.wait()

    assert anyio.run(run) == status


def test_a_leashed_command_that_is_not_there_ends_as_in_a_shell() -> None:
    async def run() -> int:
        process = await leashed(["no-such-command"], os.environ)
        return await process.wait()

    assert anyio.run(run) == 127


def test_stopping_what_has_ended_does_nothing() -> None:
    async def run() -> None:
        process = await leashed([sys.executable, "-c", ""], os.environ)
        await process.wait()
        await stop(process)

    anyio.run(run)
