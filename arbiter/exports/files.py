"""Write files atomically, and check for optional packages."""

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from arbiter.protocols.errors import ConfigError, ReportError, not_installed

_IN_PATHS = frozenset('/\\:*?"<>|%')
_LONGEST, _CUT = 150, 100  # bytes


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


def safe_name(name: str) -> str:
    """Return a file name for ``name`` that stays in its folder. Different names have different file names.

    Letters of all languages stay. What has a meaning in paths, control characters, halves of characters and ``%`` are
    written as in an address (``%2F``). A long name is cut, and ends in a digest.
    """
    safe = "".join(
        one
        if one.isprintable() and one not in _IN_PATHS
        else "".join(f"%{byte:02X}" for byte in one.encode(errors="surrogatepass"))
        for one in name
    )
    safe = f"%2E{safe[1:]}" if safe.startswith(".") else safe or "%"
    if len(safe.encode()) <= _LONGEST:
        return safe
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=10).hexdigest()
    return f"{safe.encode()[:_CUT].decode(errors='ignore')}%{digest}"


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
        raise ConfigError(not_installed(what, package, extra))


def _refused(path: Path, error: OSError) -> ReportError:
    return ReportError(f"cannot write {path}: {error.strerror}")


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
