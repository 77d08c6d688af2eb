"""Files that are whole or not there, and packages that are there or told of."""

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
    """A file to write into, which takes the place of ``path`` when the block ends well, and leaves nothing otherwise.

    Missing folders are made. Raises ``ReportError`` if the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _refused(path, error) from error
    half = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        half.chmod(0o666 & ~_umask())  # mkstemp's files are for their owner alone
        half.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        half.unlink(missing_ok=True)


def require(module: str, extra: str, what: str) -> None:
    """Raises ``ConfigError`` with the way out if the package that ``what`` needs is not installed."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # of a parent package
        found = None
    if found is None:
        package = module.partition(".")[0]
        raise ConfigError(f"{what} needs {package}, which is not installed: pip install 'arbiter-reasoning[{extra}]'")


def _refused(path: Path, error: OSError) -> ReportError:
    return ReportError(f"cannot write {path}: {error.strerror}")


def _umask() -> int:
    """The process's mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
