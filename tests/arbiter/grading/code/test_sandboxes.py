"""Programs in the real bubblewrap: what they need, what they may not, and that nothing outside changes."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from arbiter.grading.code.code_tests import CodeTest, OutputTest, PythonTests
from arbiter.grading.code.sandboxes import Sandbox, SandboxError, SandboxLimits, SandboxVerdict
from arbiter.protocols.errors import ConfigError

ROOT = Path(__file__).parents[4]
SYSTEM_PYTHON = "/usr/bin/python3"
LIMITS = SandboxLimits(seconds=1, wall_seconds=60, memory=256, processes=4, file_size=1, output=1)
ENDS: list[CodeTest] = [PythonTests(("assert True",))]

TMP = "/tmp"  # noqa: S108 - in the sandbox, and of the host

pytestmark = pytest.mark.slow


def judged(
    program: str, tests: list[CodeTest] | None = None, sandbox: Sandbox | None = None
) -> tuple[bool | None, str | None]:
    verdict = anyio.run((sandbox or Sandbox(limits=LIMITS)).judge, program, tests or ENDS)
    return verdict.right, verdict.reason


def test_a_program_that_passes_its_tests_is_right(bubblewrap: None) -> None:
    tests: list[CodeTest] = [PythonTests(("import math", "assert double(2) == 4", "assert double(math.pi) > 6"))]
    assert judged("def double(x): return 2 * x", tests) == (True, None)
    assert judged("def double(x): return 4", tests) == (False, "assertion 3 of 3 failed: AssertionError")
    assert judged("def double(x:", tests) == (
        False,
        "the program failed: SyntaxError: '(' was never closed (answer.py, line 1)",
    )


def test_a_program_reads_its_input_and_writes_its_output(bubblewrap: None) -> None:
    tests: list[CodeTest] = [OutputTest("4\n", "8\n"), OutputTest("5\n", "10\n\n"), OutputTest("0.1\n", "0.20\n")]
    assert judged("print(' ', 2 * float(input()), ' ')", tests) == (True, None)
    assert judged("print(8)", tests) == (False, "test 2 of 3: the output is '8\\n', not '10\\n\\n'")
    assert judged("print(8); raise KeyError('x')", tests) == (
        False,
        "test 1 of 3: the program failed: KeyError: 'x'",
    )


def test_a_program_runs_as_the_main_program_only_if_its_output_counts(bubblewrap: None) -> None:
    program = "if __name__ == '__main__':\n    print(input())"
    assert judged(program, [OutputTest("a", "a")]) == (True, None)
    assert judged(program) == (True, None)


@pytest.mark.parametrize(
    ("within", "beyond", "reason"),
    [
        pytest.param(
            "import time\nwhile time.process_time() < 0.5: pass",
            "import time\nwhile time.process_time() < 5: pass",
            "the program needs more than 1 s of CPU time",
            id="CPU time",
        ),
        pytest.param(
            "x = bytearray(64 << 20)",
            "x = bytearray(256 << 20)",
            "the program failed: MemoryError (the limit is 256 MiB of memory)",
            id="memory",
        ),
        pytest.param(
            "import os, time\nfor _ in range(3):\n    if os.fork() == 0: time.sleep(60)",
            "import os, time\nfor _ in range(4):\n    if os.fork() == 0: time.sleep(60)",
            "the program failed: BlockingIOError: [Errno 11] Resource temporarily unavailable "
            "(the limit is 4 processes)",
            id="processes",
        ),
        pytest.param(
            "import threading, time\nfor _ in range(3): threading.Thread(target=time.sleep, args=(60,)).start()",
            "import threading, time\nfor _ in range(4): threading.Thread(target=time.sleep, args=(60,)).start()",
            "the program failed: RuntimeError: can't start new thread (the limit is 4 processes)",
            id="threads",
        ),
        pytest.param(
            "open('file', 'wb').write(bytes(1 << 20))",
            "with open('file', 'wb') as file: file.write(bytes((1 << 20) + 1)); file.write(b'1')",
            "the program failed: OSError: [Errno 27] File too large (the limit is 1 MiB in a file)",
            id="file size",
        ),
        pytest.param(
            "for n in range(3): open(f'file{n}', 'wb').write(bytes(1 << 20))",
            "for n in range(5): open(f'file{n}', 'wb').write(bytes(1 << 20))",
            "the program failed: OSError: [Errno 28] No space left on device",
            id="files together",
        ),
        pytest.param(
            "import sys; sys.stdout.write('x' * (1 << 20)); sys.stdout.flush()",
            "import sys; sys.stdout.write('x' * ((1 << 20) + 1)); sys.stdout.flush()",
            "the program writes more than 1 MiB",
            id="output",
        ),
    ],
)
def test_a_program_that_needs_one_unit_more_than_a_limit_is_wrong_with_the_reason(
    bubblewrap: None, within: str, beyond: str, reason: str
) -> None:
    assert judged(within) == (True, None)
    assert judged(beyond) == (False, reason)


def test_a_program_that_waits_is_stopped(bubblewrap: None) -> None:
    waits = Sandbox(limits=SandboxLimits(wall_seconds=2))
    assert judged("import time; time.sleep(600)", ENDS, waits) == (False, "the program did not end within 2 s")
    child = "import os, time\nif os.fork() == 0:\n    time.sleep(600)\n"
    assert judged(child) == (True, None)  # what it leaves behind ends with it


def test_a_program_has_no_network(bubblewrap: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        connects = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)"
        assert judged(connects) == (
            False,
            "the program failed: ConnectionRefusedError: [Errno 111] Connection refused",
        )
        with pytest.raises(BlockingIOError):
            server.accept()
    outside = "import socket\nsocket.create_connection(('192.0.2.1', 80), 5)"
    assert judged(outside) == (
        False,
        "the program failed: OSError: [Errno 101] Network is unreachable",
    )


def test_a_program_has_no_environment_of_the_host(bubblewrap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARBITER_SECRET", "a secret")
    reads = "import os\nassert 'ARBITER_SECRET' in os.environ, sorted(os.environ)"
    right, reason = judged(reads)
    assert right is False
    assert reason == "the program failed: AssertionError: ['HOME', 'LANG', 'PATH', 'PWD']"
    others = (
        "import glob\nfor name in glob.glob('/proc/[0-9]*/environ'):\n"
        "    try: assert 'ARBITER' not in open(name).read()\n    except OSError: pass"
    )
    assert judged(others) == (True, None)


def test_a_program_sees_and_changes_nothing_of_the_host(bubblewrap: None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("as it was")
    tmp_path.chmod(0o777)
    path.chmod(0o666)
    left = Path(TMP) / f"left-by-{tmp_path.name}"
    for program in (
        f"open({str(path)!r}, 'w').write('changed')",
        f"open({str(path)!r}).read()",
        "open('/usr/changed', 'w')",
        "open('/changed', 'w')",
        f"open({str(ROOT / 'changed')!r}, 'w')",
        f"import os\nos.kill({os.getpid()}, 9)",
        "import os\nos.setuid(0)",
    ):
        right, reason = judged(program)
        assert (right, str(reason).startswith("the program failed: ")) == (False, True), (program, reason)
    assert judged(f"open({str(left)!r}, 'w').write('here')") == (True, None)
    assert path.read_text() == "as it was"
    assert not Path("/usr/changed").exists()
    assert not left.exists()


def test_a_program_is_not_root_and_in_no_group_of_the_caller(bubblewrap: None) -> None:
    assert judged("import os\nassert 0 not in (os.getuid(), os.geteuid(), os.getgid(), os.getegid())") == (True, None)
    assert judged("import os\nassert set(os.getgroups()) <= {os.getgid()}") == (True, None)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os._exit(0)", "the program ended before its tests, with exit status 0"),
        ("import sys; sys.exit(0)", "the program failed: SystemExit: 0"),
        (
            "print('{\"right\": true}'); import os; os._exit(0)",
            "the program ended before its tests, with exit status 0",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the program was killed by SIGKILL"),
    ],
)
def test_neither_an_exit_status_nor_an_output_proves_that_the_tests_passed(
    bubblewrap: None, program: str, reason: str
) -> None:
    assert judged(program, [PythonTests(("assert False",))]) == (False, reason)


def test_an_answer_on_standard_error_is_no_answer(bubblewrap: None) -> None:
    program = "import sys\nprint(42, file=sys.stderr)"
    assert judged(program, [OutputTest("", "42")]) == (False, "the output is '', not '42'")
    assert judged("print(42)", [OutputTest("", "42")]) == (True, None)


def test_a_program_cannot_stop_or_answer_for_the_process_that_judges_it(bubblewrap: None) -> None:
    kills = "import os, signal\nfor one in signal.Signals:\n    os.kill(os.getppid(), one)\n"
    assert judged(kills, [PythonTests(("assert False",))]) == (False, "the test failed: AssertionError")
    writes = "import os\nopen(f'/proc/{os.getppid()}/fd/1', 'w').write('x')"
    right, reason = judged(writes)
    assert (right, str(reason).startswith("the program failed: PermissionError")) == (False, True)


def test_many_programs_run_concurrently_and_each_has_its_own_verdict(bubblewrap: None) -> None:
    verdicts: dict[int, SandboxVerdict] = {}

    async def judge_all() -> None:
        sandbox = Sandbox(limits=LIMITS)

        async def judge(number: int) -> None:
            verdicts[number] = await sandbox.judge(f"x = {number}", [PythonTests(("assert x % 2 == 0",))])

        async with anyio.create_task_group() as judging:
            for number in range(6):
                judging.start_soon(judge, number)

    anyio.run(judge_all)
    assert {number for number, verdict in verdicts.items() if verdict.right} == {0, 2, 4}


def test_a_cancelled_program_is_gone(bubblewrap: None) -> None:
    async def cancelled() -> None:
        with anyio.move_on_after(3):
            await Sandbox(limits=LIMITS).judge("import time\ntime.sleep(600)", ENDS)

    anyio.run(cancelled)
    assert _bubblewraps() == set()


def _bubblewraps() -> set[str]:
    """Return the processes of bubblewrap that this process has started."""
    children = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return {child for each in children for child in each if _is_bubblewrap(child)}


def _is_bubblewrap(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"bwrap")
    except OSError:
        return False


@pytest.fixture
def without_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search path with no program on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("kind", "program", "remedy"),
    [("bubblewrap", "bwrap", "apt-get install bubblewrap"), ("docker", "docker", "start Docker")],
)
def test_without_its_program_a_sandbox_is_refused_with_the_way_out(
    without_programs: None, kind: str, program: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        anyio.run(Sandbox("docker" if kind == "docker" else "bubblewrap").check)
    assert f"{kind} is not installed (there is no program {program})" in str(caught.value)
    assert remedy in str(caught.value)
    assert "set [data] allow_unsandboxed = true" in str(caught.value)


@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason=f"there is no {SYSTEM_PYTHON}, which every user can run")
def test_only_the_key_that_allows_it_runs_programs_without_a_sandbox(without_programs: None) -> None:
    sandbox = Sandbox(limits=LIMITS, python=SYSTEM_PYTHON, allow_unsandboxed=True)
    notice = anyio.run(sandbox.check)
    assert notice is not None
    assert notice.startswith("programs run without a sandbox (data.allow_unsandboxed): bubblewrap is not installed")
    assert judged("x = 1", ENDS, sandbox) == (True, None)
    assert judged("import os\nassert os.geteuid() == 0", ENDS, sandbox) == (False, "the program failed: AssertionError")
    assert judged("x = bytearray(256 << 20)", ENDS, sandbox) == (
        False,
        "the program failed: MemoryError (the limit is 256 MiB of memory)",
    )


def test_docker_gets_the_limits_and_nothing_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a program in the place of Docker that notes its arguments and runs what would be in the container."""
    docker = tmp_path / "docker"
    docker.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"open({str(tmp_path / 'arguments')!r}, 'w').write(chr(10).join(sys.argv[1:]))\n"
        f"os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[sys.argv.index('python3') + 1:]])\n"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sandbox = Sandbox("docker", LIMITS, image="an-image")
    assert anyio.run(sandbox.check) is None
    wrong: list[CodeTest] = [PythonTests(("assert x == 2",))]
    assert judged("x = 1", wrong, sandbox) == (False, "the test failed: AssertionError")
    arguments = (tmp_path / "arguments").read_text().split("\n")
    before = arguments[: arguments.index("python3")]
    name = before.pop(3)
    assert name.startswith("arbiter-")
    assert before == [
        *("run", "--rm", "--name", "--interactive", "--network", "none", "--read-only"),
        *("--tmpfs", f"{TMP}:exec,mode=1777,size=4m", "--workdir", TMP),
        *("--user", "65534:65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--pids-limit", "5", "--memory", "384m", "an-image"),
    ]


@pytest.mark.parametrize("ending", ["kill -9 $$", "exec sleep 60"])
def test_the_client_of_docker_finds_its_daemon_and_a_container_without_a_verdict_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    docker, calls, seen, ran = (tmp_path / name for name in ("docker", "calls", "environment", "ran"))
    os.mkfifo(ran)
    docker.write_text(
        f'#!/bin/sh\necho "$1 $2 $3 $4" >> {calls}\n[ "$1" = rm ] && exit 0\nenv > {seen}\necho > {ran}\n{ending}\n'
    )
    docker.chmod(0o755)
    found = {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/1", "DOCKER_HOST": "unix:///mine", "DOCKER_CONTEXT": "c"}
    for name, value in {**found, "SECRET": "s", "PATH": f"{tmp_path}:{os.environ['PATH']}"}.items():
        monkeypatch.setenv(name, value)

    async def judge() -> None:
        async with anyio.create_task_group() as judging:
            judging.start_soon(Sandbox("docker").judge, "x = 1", ENDS)
            await anyio.to_thread.run_sync(ran.read_text)
            if ending.startswith("exec"):
                judging.cancel_scope.cancel()

    with suppress(ExceptionGroup):
        anyio.run(judge)
    given = {name: value for name, _, value in (line.partition("=") for line in seen.read_text().splitlines())}
    assert found.items() <= given.items()
    assert "SECRET" not in given
    run, remove = calls.read_text().splitlines()
    assert run.startswith("run --rm --name arbiter-")
    assert remove.split() == ["rm", "--force", run.split()[3]]


def test_a_sandbox_that_fails_gives_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match="the sandbox failed: Cannot connect to the Docker daemon"):
        anyio.run(Sandbox("docker").judge, "x = 1", ENDS)
    docker.write_text('#!/bin/sh\necho \'{"token": "another", "right": true, "reason": null}\'\n')
    with pytest.raises(SandboxError, match="its verdict lacks the token of the job"):
        anyio.run(Sandbox("docker").judge, "x = 1", ENDS)


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests run as an ordinary user already")
def test_an_ordinary_user_has_the_same_sandbox(bubblewrap: None) -> None:
    if shutil.which("setpriv") is None or not Path(SYSTEM_PYTHON).exists():
        pytest.skip(f"there is no setpriv, or no {SYSTEM_PYTHON}, which every user can run")
    version = subprocess.run([SYSTEM_PYTHON, "-V"], capture_output=True, text=True, check=True).stdout
    if version.split()[1].split(".")[:2] != [*map(str, sys.version_info[:2])]:
        pytest.skip(f"{SYSTEM_PYTHON} is {version.strip()}, which the installed packages are not for")
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    program = (
        "import anyio\nfrom arbiter.grading.code.sandboxes import *\nfrom arbiter.grading.code.code_tests import *\n"
        "async def main():\n    sandbox = Sandbox(limits=SandboxLimits(processes=4))\n    await sandbox.check()\n"
        "    fork = 'import os, time\\nfor _ in range({}):\\n    if os.fork() == 0: time.sleep(60)'\n"
        "    for number in (3, 4):\n"
        "        print((await sandbox.judge(fork.format(number), [PythonTests(('1',))])).right)\n"
        "anyio.run(main)\n"
    )
    ended = subprocess.run(
        ["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups", SYSTEM_PYTHON, "-B", "-c", program],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{packages}"}, cwd="/", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if "Permission denied" in ended.stderr or "ModuleNotFoundError" in ended.stderr:
        pytest.skip("an ordinary user may not read the packages")
    assert ended.stdout.split() == ["True", "False"], ended.stderr
