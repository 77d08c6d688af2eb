"""The configuration in a folder, ``config.toml``.

A file that the user wrote is never replaced by a new run; resuming with other settings rewrites it.
"""

from pathlib import Path
from typing import Any, cast

import msgspec
import tomli_w

from arbiter.config.config import Config, load_config
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.runs.file_replacement import replace_file

NAME = "config.toml"


def as_toml(config: Config) -> bytes:
    """Return the configuration as the content of a TOML file."""
    return tomli_w.dumps(_without_none(config)).encode()


def holds(path: Path, config: Config) -> bool:
    """Return whether the file ``path`` holds ``config``, however it is written."""
    stored = _stored(path)
    return stored is not None and as_toml(stored) == as_toml(config)


def write(folder: Path, config: Config) -> None:
    """Write the configuration into ``folder``. A file that holds it already stays as it is, with its comments.

    Raises ``RunError`` if it cannot be written.
    """
    path = folder / NAME
    if not holds(path, config):
        replace_file(path, as_toml(config))


def is_own(path: Path) -> bool:
    """Return whether Arbiter wrote the file ``path``, and nobody edited it."""
    stored = _stored(path)
    return stored is not None and path.read_bytes() == as_toml(stored)


def check_replaceable(folder: Path, config: Config) -> None:
    """Raise ``RunError`` if a run of ``config`` in ``folder``, which holds no run, would replace the user's file."""
    path = folder / NAME
    if path.exists() and not is_own(path) and not holds(path, config):
        raise RunError(
            f"{path} is another configuration than that of the run, and Arbiter did not write it: choose another "
            "folder with --out"
        )


def _stored(path: Path) -> Config | None:
    """Return the configuration in the file ``path``; None if there is none."""
    try:
        return load_config(str(path)) if path.is_file() else None
    except ConfigError:
        return None


def _without_none(config: Config) -> dict[str, Any]:
    """Return the configuration as a tree without None, which TOML cannot express."""

    def clean(tree: dict[str, Any]) -> dict[str, Any]:
        return {
            key: clean(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
            for key, value in tree.items()
            if value is not None
        }

    return clean(msgspec.to_builtins(config))
