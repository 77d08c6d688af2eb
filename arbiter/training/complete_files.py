"""Write the files of a training so that a kill at any moment leaves them complete, or recognisably unfinished."""

import os
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

WRITING = ".writing"
"""The name of the folder whose files are not complete yet."""

_STATE = re.compile(r"checkpoint-(\d+)")


def newest_state(folder: Path) -> Path | None:
    """Return the newest complete state of a training in ``folder``, or None."""
    found = [path for path in folder.glob("checkpoint-*") if _STATE.fullmatch(path.name) and path.is_dir()]
    return max(found, key=_update, default=None)


def publish_state(written: Path, folder: Path) -> None:
    """Move a state that is complete from ``written`` into ``folder``, and delete the older states there.

    Raises ``OSError``.
    """
    _sync(written)
    place = folder / written.name
    if place.exists():  # of a training that was started again from the beginning
        shutil.rmtree(place)
    written.rename(place)
    _sync_names(folder)
    for path in folder.glob("checkpoint-*"):
        if path != place:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def together(out: Path, last: str) -> Generator[Path]:
    """Yield a folder whose files are moved into ``out`` when the block ends, the file ``last`` after all others.

    So ``out`` has that file only if it has all of them. Raises ``OSError``.
    """
    writing = out / WRITING
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir()
    yield writing
    _sync(writing)
    (out / last).unlink(missing_ok=True)  # it describes other files
    for path in sorted(writing.iterdir(), key=lambda path: (path.name == last, path.name)):
        path.replace(out / path.name)
    _sync_names(out)
    writing.rmdir()


def is_unfinished(out: Path, last: str) -> bool:
    """Return whether a process was killed within ``together``, before ``out`` was complete."""
    return (out / WRITING).is_dir() and not (out / last).exists()


def _update(state: Path) -> int:
    found = _STATE.fullmatch(state.name)
    return int(found[1]) if found else -1


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_names(folder)


def _sync_names(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
