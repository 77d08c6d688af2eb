"""Let only one process write a folder at a time."""

import errno
import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from arbiter.protocols.errors import RunError, os_reason

_TRIES, _PAUSE = 5, 0.02  # seconds: ``is_locked`` of another process holds the lock for a moment
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def locked(path: Path, what: str) -> Generator[None]:
    """Hold a lock on the file ``path`` within the block. Its folder is that of ``what``, and is made if it is missing.

    The lock ends with the process, however it ends; the file stays. Raises ``RunError`` if another process holds the
    lock, if the folder cannot be written, or if its file system has no locks.
    """
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"cannot write the {what} folder {folder}: {os_reason(error)}") from error
    try:
        _take(number)
    except BlockingIOError as error:
        os.close(number)
        raise RunError(
            f"another process is writing the {what} {folder}: wait until it ends, or choose another folder with --out"
        ) from error
    except OSError as error:
        os.close(number)
        if error.errno in _NO_LOCKS:
            raise _no_locks(what, folder) from error
        raise RunError(f"cannot lock the {what} folder {folder}: {os_reason(error)}") from error
    try:
        yield
    finally:
        os.close(number)


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock on the file ``path``; False if that cannot be known."""
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(number)
    return False


def _take(number: int) -> None:
    for tries_left in reversed(range(_TRIES)):
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not tries_left:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _no_locks(what: str, folder: Path) -> RunError:
    return RunError(
        f"cannot lock the {what} folder {folder}: its file system has no locks, so two processes could write it at the "
        "same time. Choose a folder on another file system with --out"
    )
