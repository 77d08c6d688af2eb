"""Replace a small file as a whole, so that a kill leaves the old content or the new one."""

import os
import tempfile
from pathlib import Path

from arbiter.protocols.errors import RunError, os_reason


def replace_file(path: Path, content: bytes) -> None:
    """Replace the content of the file ``path`` atomically. Raises ``RunError`` if it cannot be written."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)
            temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {path}: {os_reason(error)}") from error
