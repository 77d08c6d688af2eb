"""Which Python has an engine: each lives in an environment of its own, since engines pin what others need newer."""

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
_WAYS_OUT: dict[Program, str] = {
    "sglang": "`just sglang-env` makes .sglang for a machine without a GPU, `pip install sglang` elsewhere",
    "vllm": "python3 -m venv .vllm && .vllm/bin/pip install vllm",
    "llama.cpp": "python3 -m venv .llama-cpp && .llama-cpp/bin/pip install 'llama-cpp-python[server]'",
}
_LOOK = (
    "import sys; from importlib.util import find_spec; print(*(find_spec(name) is not None for name in sys.argv[1:]))"
)


class Interpreter(msgspec.Struct, frozen=True):
    """The Python of an environment; ``has_kernels`` says whether sglang's own (``sgl_kernel``) are in it."""

    path: str
    has_kernels: bool = True


def find_interpreter(program: Program, named: str | None = None) -> Interpreter:
    """The interpreter that has the engine.

    It is the one that is ``named``, else the one of the environment variable ``ARBITER_SGLANG_PYTHON`` (or
    ``…_VLLM_…``, ``…_LLAMA_CPP_…``), else ``.sglang/bin/python`` (``.vllm``, ``.llama-cpp``) in the current folder,
    else this one. Raises ``ConfigError`` with the way out if there is none, or if the engine is not in it.
    """
    variable = variable_of(program)
    chosen = named or os.environ.get(variable)
    if chosen is not None:
        whence = "python" if named else variable
        path = shutil.which(os.path.expanduser(chosen))  # noqa: PTH111 - a Path would lose the ./ of ./python
        if path is None:
            raise ConfigError(f"{whence}: there is no interpreter {chosen!r}. {_WAYS_OUT[program]}")
        found = _looked_into(program, path)
        if found is None:
            raise ConfigError(f"{whence}: {chosen} has no {program}. {_WAYS_OUT[program]}")
        return found
    for path in (_usual(program), sys.executable):
        found = _looked_into(program, path) if Path(path).exists() else None
        if found is not None:
            return found
    raise ConfigError(
        f"no Python here has {program}: set python in the server's table, or {variable}, to the interpreter of the "
        f"environment that has it. {_WAYS_OUT[program]}"
    )


def likely_interpreter(program: Program, named: str | None = None) -> Interpreter:
    """As ``find_interpreter``; where there is none, the one that the way out would make, for a command to look at."""
    try:
        return find_interpreter(program, named)
    except ConfigError:
        return Interpreter(named or _usual(program), has_kernels=False)


def variable_of(program: Program) -> str:
    """The environment variable that names the interpreter."""
    return f"ARBITER_{program.upper().replace('.', '_')}_PYTHON"


def _usual(program: Program) -> str:
    return str(Path.cwd() / f".{program.replace('.', '-')}" / "bin" / "python")


@functools.cache
def _looked_into(program: Program, path: str) -> Interpreter | None:
    """The interpreter at ``path``, or None if it does not have the engine. Nothing is imported for it."""
    command = [path, "-c", _LOOK, _PACKAGES[program], "sgl_kernel"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 - ours
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{path} cannot be asked whether it has {program}: {error}") from error
    has_engine, has_kernels = told.stdout.split()[-2:]
    return Interpreter(path, has_kernels == "True") if has_engine == "True" else None
