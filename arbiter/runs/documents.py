"""Read the files of a folder that hold one JSON object each: summaries, collections, sweeps."""

from pathlib import Path
from typing import TypeVar

import msgspec

from arbiter.log.checksums import of_document
from arbiter.protocols.errors import RunError, os_reason

Kind = TypeVar("Kind")


def read_document(path: Path, kind: type[Kind], remedy: str) -> Kind | None:
    """Return the object in the file ``path`` as ``kind``, whose checksum is verified; None if there is no file.

    Raises ``RunError`` if the file cannot be read, and with the ``remedy`` if it is damaged.
    """
    try:
        return msgspec.json.decode(of_document(path.read_bytes()), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {path}: {os_reason(error)}") from error
    except ValueError as error:  # a wrong checksum, or another object
        raise RunError(f"{path}: {error}; {remedy}") from error
