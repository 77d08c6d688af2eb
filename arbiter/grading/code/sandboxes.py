"""Sandboxes for programs that a model wrote: bubblewrap, Docker, or none if that is allowed.

Each program has a sandbox of its own, without network, environment and files of the host, and with limits. What runs in
it is ``sandbox_supervisor``, as a user that is not root.
"""

import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import ByteReceiveStream

from arbiter.grading.code.code_tests import CodeTest, PythonTests
from arbiter.protocols.errors import ArbiterError, ConfigError
from arbiter.protocols.records import Record

SandboxKind = Literal["bubblewrap", "docker"]

_MIB, _FILES = 1 << 20, 4  # all files of a program may have four times the size of one
_SUPERVISOR = 128  # MiB
_FOLDER = Path(__file__).parent
_USERS = range(1_900_000_000, 2_000_000_000)  # no account of the host: only the program's own processes count
_READ_ONLY = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_PATH = "/usr/local/bin:/usr/bin:/bin"
_TMP = "/tmp"  # noqa: S108 - within the sandbox
_CLIENT = ("PATH", "HOME", "XDG_RUNTIME_DIR")  # with DOCKER_*: contexts, and the socket of rootless Docker
_REMOVAL = 10.0  # seconds
_START = 60.0  # seconds, for the start of a sandbox on a busy machine
_LONGEST_VERDICT = 1 << 16
_PROBE = (PythonTests(("assert answer() == 42",)),)


class SandboxError(ArbiterError):
    """A sandbox has failed, so that a program has no verdict."""


class SandboxLimits(Record, frozen=True):
    """The limits of a program, as the table ``[data.sandbox]`` has them. Sizes are in MiB.

    ``seconds`` is CPU time, and ``memory`` address space; both are those of one process. ``processes`` includes threads
    and the program itself. ``output`` is what the program may write to standard output and standard error together.
    """

    seconds: int = 10
    wall_seconds: int = 60
    memory: int = 1024
    processes: int = 16
    file_size: int = 16
    output: int = 1


class SandboxVerdict(msgspec.Struct, frozen=True):
    """The verdict on a program, with the reason if it is wrong, or if the sandbox failed (``right`` is None).

    ``token`` is that of the job.
    """

    token: str
    right: bool | None
    reason: str | None


class Sandbox:
    """Runs up to ``workers`` programs concurrently, each in its own sandbox.

    ``python`` is the interpreter of the programs (None: the one that runs Arbiter); Docker takes that of ``image``.
    ``allow_unsandboxed`` lets programs run on the host, with limits alone, if the sandbox cannot be used.
    """

    def __init__(
        self,
        kind: SandboxKind = "bubblewrap",
        limits: SandboxLimits | None = None,
        python: str | None = None,
        image: str = "python:3.11-slim",
        workers: int = 2,
        allow_unsandboxed: bool = False,
    ) -> None:
        self._kind: SandboxKind | Literal["none"] = kind
        self._limits = limits or SandboxLimits()
        self._python = python or sys.executable
        self._image = image
        self._places = anyio.CapacityLimiter(workers)
        self._allow = allow_unsandboxed

    async def check(self) -> str | None:
        """Run a small program. Return a line for the user if it must run without a sandbox.

        Raises ``ConfigError`` that says how to fix it if programs cannot run.
        """
        failed = await self._tried()
        if failed is None:
            return None
        if not self._allow:
            raise ConfigError(f'the grader "code" runs programs in a sandbox, and {failed}; {_remedy(self._kind)}')
        refused, self._kind = failed, "none"
        if (failed := await self._tried()) is not None:
            raise ConfigError(f'the grader "code" cannot run programs on this machine: {failed}')
        return f"programs run without a sandbox (data.allow_unsandboxed): {refused}"

    async def _tried(self) -> str | None:
        """Return why the sandbox cannot be used; None if it can."""
        program = {"bubblewrap": "bwrap", "docker": "docker"}.get(self._kind)
        if program and shutil.which(program) is None:
            return f"{self._kind} is not installed (there is no program {program})"
        try:
            verdict = await self.judge("def answer(): return 42", _PROBE)
        except (SandboxError, OSError, subprocess.SubprocessError) as error:
            return str(error)
        return None if verdict.right else f"a small program fails in it: {verdict.reason}"

    async def judge(self, program: str, tests: Sequence[CodeTest]) -> SandboxVerdict:
        """Run a program against its tests, and return the verdict. Raises ``SandboxError`` if the sandbox fails."""
        token = secrets.token_hex(16)
        limits = {**msgspec.to_builtins(self._limits), "counts_processes": self._kind != "docker"}
        job = {
            "token": token,
            "program": program,
            "tests": msgspec.to_builtins(list(tests)),
            "limits": limits,
            "harness": _source("sandboxed_tests"),
        }
        async with self._places:
            with _open_folder() as folder, anyio.move_on_after(_START + self._limits.wall_seconds * len(tests)):
                user = random.SystemRandom().choice(_USERS) if os.geteuid() == 0 else -1
                container = f"arbiter-{secrets.token_hex(8)}" if self._kind == "docker" else None
                command = await anyio.to_thread.run_sync(self._command, user, container)
                async with _removed_if_it_fails(container):
                    environment = {"PATH": _PATH} if container is None else _docker_environment()
                    written, errors = await _run(command, msgspec.json.encode(job), folder, environment)
                    return _verdict(written, errors, token)
        raise SandboxError("the sandbox did not answer in time")

    def _command(self, user: int, container: str | None) -> list[str]:
        supervisor = ["-I", "-c", _source("sandbox_supervisor"), str(user)]
        if container is not None:
            return [*_docker(self._limits, self._image, container), *supervisor[:-1], "-1"]
        if self._kind == "bubblewrap":
            return [*_bubblewrap(self._limits, self._python, user), self._python, *supervisor]
        return [self._python, *supervisor]


async def _run(command: list[str], given: bytes, folder: str, environment: dict[str, str]) -> tuple[bytes, bytes]:
    """Return what a sandbox wrote to its standard output and to standard error."""
    written = [bytearray(), bytearray()]
    async with await anyio.open_process(command, cwd=folder, env=environment, start_new_session=True) as process:

        async def read(stream: ByteReceiveStream, into: bytearray) -> None:
            async for part in stream:
                into += part[: _LONGEST_VERDICT - len(into)]

        async with anyio.create_task_group() as reading:
            for stream, into in zip((process.stdout, process.stderr), written, strict=True):
                if stream is not None:
                    reading.start_soon(read, stream, into)
            if process.stdin is not None:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it says why on standard error
                    await process.stdin.send(given)
                    await process.stdin.aclose()
        await process.wait()
    return bytes(written[0]), bytes(written[1])


def _verdict(written: bytes, errors: bytes, token: str) -> SandboxVerdict:
    """Return the verdict in what a sandbox wrote: a line before the first test, and one after the last.

    A program that prevents the second line is wrong. Raises ``SandboxError`` if there is no line, or that of another
    job.
    """
    try:
        verdicts = [msgspec.json.decode(line, type=SandboxVerdict) for line in written.splitlines()]
        verdict = verdicts[-1]
    except (msgspec.DecodeError, IndexError) as error:
        said = errors.decode(errors="replace").strip().rpartition("\n")[2] or "it wrote no verdict"
        raise SandboxError(f"the sandbox failed: {said[:500]}") from error
    if verdict.token != token:
        raise SandboxError("the sandbox failed: its verdict lacks the token of the job")
    if verdict.right is None:
        raise SandboxError(f"the sandbox failed: {verdict.reason}")
    return verdict


def _bubblewrap(limits: SandboxLimits, python: str, user: int) -> list[str]:
    """Return the command line before that of the program. Root keeps only what it needs to become ``user``."""
    if user >= 0:
        who = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        who = ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    prefixes = _prefixes(python)
    folders = dict.fromkeys(str(above) for path in prefixes for above in reversed(Path(path).parents))
    files = [("--ro-bind-try", path) for path in (*_READ_ONLY, *prefixes)]
    files += [("--dev-bind", path) for path in _DEVICES]
    return [
        shutil.which("bwrap") or "bwrap",
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *who,
        *("--die-with-parent", "--new-session", "--as-pid-1", "--proc", "/proc"),
        *("--perms", "1777", "--size", str(_FILES * limits.file_size * _MIB), "--tmpfs", _TMP),
        *(part for path in folders if path not in ("/", _TMP) for part in ("--perms", "0755", "--dir", path)),
        *(part for option, path in files for part in (option, path, path)),
        *("--remount-ro", "/", "--chdir", _TMP),
        *("--clearenv", "--setenv", "PATH", _PATH, "--setenv", "HOME", _TMP, "--setenv", "LANG", "C.UTF-8"),
    ]


@asynccontextmanager
async def _removed_if_it_fails(container: str | None) -> AsyncGenerator[None]:
    """Remove the container of that name if the block fails or is cancelled: its client was killed without it."""
    try:
        yield
    except BaseException:
        if container is not None:
            with anyio.move_on_after(_REMOVAL, shield=True), suppress(OSError):
                remove = ["docker", "rm", "--force", container]
                await anyio.run_process(remove, check=False, env=_docker_environment())
        raise


def _docker_environment() -> dict[str, str]:
    """Return what the client of Docker needs to find its settings and the daemon. The program gets none of it."""
    passed = {name: value for name, value in os.environ.items() if name in _CLIENT or name.startswith("DOCKER_")}
    return {"PATH": _PATH, **passed}


def _docker(limits: SandboxLimits, image: str, name: str) -> list[str]:
    """Return the command line before the arguments of Python. The container has the ``name``."""
    return [
        *("docker", "run", "--rm", "--name", name, "--interactive", "--network", "none", "--read-only"),
        *("--tmpfs", f"{_TMP}:exec,mode=1777,size={_FILES * limits.file_size}m", "--workdir", _TMP),
        *("--user", "65534:65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--pids-limit", str(limits.processes + 1), "--memory", f"{limits.memory + _SUPERVISOR}m"),
        *(image, "python3"),
    ]


@contextmanager
def _open_folder() -> Generator[str]:
    """Yield an empty folder in which every user may write: the program is another one."""
    with tempfile.TemporaryDirectory(prefix="arbiter-") as folder:
        Path(folder).chmod(0o1777)
        yield folder


@cache
def _prefixes(python: str) -> tuple[str, ...]:
    """Return the folders of a Python that are not below ``/usr``. Raises ``OSError`` or ``SubprocessError``."""
    code = "import sys; print(sys.prefix, sys.base_prefix, sep='\\n')"
    printed = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=_START)  # noqa: S603
    return tuple(
        path for path in dict.fromkeys(printed.stdout.split("\n")) if path and not Path(path).is_relative_to("/usr")
    )


@cache
def _source(module: str) -> str:
    return (_FOLDER / f"{module}.py").read_text(encoding="utf-8")


def _remedy(kind: SandboxKind | Literal["none"]) -> str:
    install = {
        "bubblewrap": 'install it (apt-get install bubblewrap), or set [data.sandbox] kind = "docker"',
        "docker": 'start Docker and fetch the image of [data.sandbox], or set kind = "bubblewrap"',
    }.get(kind, "")
    return f"{install}. To run programs on this machine without protection, set [data] allow_unsandboxed = true"
