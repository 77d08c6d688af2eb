"""Write files atomically, and check for optional packages."""

import importlib.util
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from arbiter.protocols.errors import ConfigError, ReportError


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a file that replaces ``path`` when the block ends without an exception, and is removed otherwise.

    Missing folders are made. Raises ``ReportError`` if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _refused(path, error) from error
    unfinished = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        unfinished.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        unfinished.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def require(module: str, extra: str, what: str) -> None:
    """Raise ``ConfigError`` if ``module``, which ``what`` needs, is missing; the message has the command to install it.

    ``extra`` is the extra of Arbiter that includes the package.
    """
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a parent package is missing
        found = None
    if found is None:
        package = module.partition(".")[0]
        raise ConfigError(f"{what} needs {package}, which is not installed: pip install 'arbiter-reasoning[{extra}]'")


def _refused(path: Path, error: OSError) -> ReportError:
    return ReportError(f"cannot write {path}: {error.strerror}")


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
