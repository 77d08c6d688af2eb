"""What to do with a damaged file of a run that is derived from its log, and the summary, which is one of them."""

from pathlib import Path
from typing import TypeVar

import msgspec

from arbiter.log.checksums import of_document
from arbiter.log.reader import LOG
from arbiter.protocols.errors import RunError

Kind = TypeVar("Kind", bound=msgspec.Struct)


def resume_command(folder: Path) -> str:
    """Return the command that resumes the run in ``folder``: a point of a sweep is resumed with its sweep."""
    if (folder.parent / "sweep.json").is_file():
        return f"arbiter sweep --resume {folder.parent}"
    command = "collect" if (folder / "collection.json").is_file() else "bench"
    return f"arbiter {command} --resume {folder}"


def written_again(folder: Path) -> str:
    """Return the remedy for a damaged file that the log of the run in ``folder`` can replace."""
    if (folder / LOG).is_file():
        return f"restore it from a copy, or write it again from the log: {resume_command(folder)}"
    if (folder / "collection.json").is_file():
        return "restore it from a copy, or import the rows again into another folder: arbiter collect --import"
    return f"restore it from a copy: the folder has no {LOG} from which it could be written again"


def read_summary(path: Path, kind: type[Kind]) -> Kind | None:
    """Return the keys of ``kind`` in the summary ``path``; None if there is no such file.

    Raises ``RunError`` with the remedy if it is damaged or cannot be read.
    """
    try:
        return msgspec.json.decode(of_document(path.read_bytes()), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a wrong checksum, or no summary
        raise RunError(f"{path}: {error}; {written_again(path.parent)}") from error
