"""The names of sessions that may be open at a server, in files: later processes close those of a killed one.

Each opened model that uses sessions has a file in the folder ``sessions_folder``. It has the server's address, and how
many sessions have names. Its process holds a lock on it, which ends with the process. A file without a lock is left
over: its process was killed before it closed its sessions.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

_BLOCK = 64
"""Names are reserved in blocks, because each block is written to the file before its first name is used."""


class _Named(msgspec.Struct, frozen=True):
    """The content of a file. The sessions are numbered from 0; the names of ``count`` of them may be in use."""

    url: str
    token: str
    count: int


def sessions_folder() -> Path:
    """Return the folder of the files: ``arbiter/sessions`` in ``XDG_STATE_HOME``, which is ``~/.local/state`` if unset.

    Raises ``RuntimeError`` if there is no home directory.
    """
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "arbiter" / "sessions"


class SessionLedger:
    """The names of the sessions of one opened model at the server ``url``.

    Raises ``OSError`` if the file cannot be written or locked.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._url = url
        self._token = secrets.token_hex(8)
        self._reserved = 0
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f".{self._token}"
        self._file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._reserve(_BLOCK)
            self._path = new.rename(folder / f"{self._token}.json")  # only now other processes look at it
        except OSError:
            os.close(self._file)
            new.unlink(missing_ok=True)
            raise

    def name(self, index: int) -> str:
        """Return the name of the session ``index``, 0 or more. Raises ``OSError`` if it cannot be written first."""
        if index >= self._reserved:
            self._reserve(self._reserved + _BLOCK)
        return _name(self._token, index)

    def close(self, *, remove: bool) -> None:
        """Give up the lock. Without ``remove``, the file stays for a later process, because sessions may be open."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _reserve(self, count: int) -> None:
        os.pwrite(self._file, msgspec.json.encode(_Named(self._url, self._token, count)), 0)
        self._reserved = count


def left_over(folder: Path, url: str) -> Iterator[tuple[Path, list[str]]]:
    """Yield the files of killed processes that had sessions at ``url``, each with the names of its sessions.

    Files that cannot be read are left out.
    """
    for path in sorted(folder.glob("*.json")):
        try:
            named = msgspec.json.decode(path.read_bytes(), type=_Named)
            is_left = named.url == url and not _is_locked(path)
        except (OSError, msgspec.DecodeError):
            continue
        if is_left:
            yield path, [_name(named.token, index) for index in range(named.count)]


def _name(token: str, index: int) -> str:
    return f"arbiter-{token}-{index}"


def _is_locked(path: Path) -> bool:
    number = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(number)
    return False
