"""Find the Python that has an engine. Each engine has its own environment: they pin conflicting versions."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from arbiter.config.server_tables import Program
from arbiter.protocols.errors import ConfigError

_PACKAGES: dict[Program, str] = {"sglang": "sglang", "vllm": "vllm", "llama.cpp": "llama_cpp"}
_INSTALL: dict[Program, str] = {
    "sglang": "To install it: `just sglang-env` on a machine without a GPU (makes .sglang), else `pip install sglang`",
    "vllm": "To install it: python3 -m venv .vllm && .vllm/bin/pip install vllm",
    "llama.cpp": ("To install it: python3 -m venv .llama-cpp && .llama-cpp/bin/pip install 'llama-cpp-python[server]'"),
}
_FIND_SPECS = (
    "import sys; from importlib.util import find_spec; print(*(find_spec(name) is not None for name in sys.argv[1:]))"
)


class Interpreter(msgspec.Struct, frozen=True):
    """The Python of an environment.

    ``has_kernels``: sglang's kernels (``sgl_kernel``) are installed in it. ``has_smg``: the gateway ``smg`` is, which
    replaces ``sglang_router``.
    """

    path: str
    has_kernels: bool = True
    has_smg: bool = True


def find_interpreter(program: Program, named: str | None = None) -> Interpreter:
    """Return the interpreter that has the engine ``program``.

    It is the one that is ``named``. Without a name it is the one of the environment variable ``ARBITER_SGLANG_PYTHON``
    (or ``…_VLLM_…``, ``…_LLAMA_CPP_…``), then ``.sglang/bin/python`` (``.vllm``, ``.llama-cpp``) in the current folder,
    then the running one. Raises ``ConfigError`` with the fix if there is none, or if it lacks the engine.
    """
    variable = variable_of(program)
    chosen = named or os.environ.get(variable)
    if chosen is not None:
        source = "python" if named else variable
        path = shutil.which(os.path.expanduser(chosen))  # noqa: PTH111 - a Path would lose the ./ of ./python
        if path is None:
            raise ConfigError(f"{source}: there is no interpreter {chosen!r}. {_INSTALL[program]}")
        found = _inspected(program, path)
        if found is None:
            raise ConfigError(f"{source}: {chosen} has no {program}. {_INSTALL[program]}")
        return found
    for path in (_usual(program), sys.executable):
        found = _inspected(program, path) if Path(path).exists() else None
        if found is not None:
            return found
    raise ConfigError(
        f"no Python with {program} was found: set python in the server's table, or the environment variable "
        f"{variable}, to the interpreter of its environment. {_INSTALL[program]}"
    )


def likely_interpreter(program: Program, named: str | None = None) -> Interpreter:
    """Return what ``find_interpreter`` finds, or the path where an installation would be, to print a command."""
    try:
        return find_interpreter(program, named)
    except ConfigError:
        return Interpreter(named or _usual(program), has_kernels=False)


def variable_of(program: Program) -> str:
    """Return the name of the environment variable for the interpreter."""
    return f"ARBITER_{program.upper().replace('.', '_')}_PYTHON"


def _usual(program: Program) -> str:
    return str(Path.cwd() / f".{program.replace('.', '-')}" / "bin" / "python")


@functools.cache
def _inspected(program: Program, path: str) -> Interpreter | None:
    """Return the interpreter at ``path``, or None if it lacks the engine. The engine is not imported."""
    command = [path, "-c", _FIND_SPECS, _PACKAGES[program], "sgl_kernel", "smg"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 - ours
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"cannot run {path} to check whether it has {program}: {error}") from error
    has_engine, has_kernels, has_smg = (word == "True" for word in ended.stdout.split()[-3:])
    return Interpreter(path, has_kernels, has_smg) if has_engine else None
