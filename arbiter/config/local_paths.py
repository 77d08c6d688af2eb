"""Paths in a configuration: how a relative one is read, and which names can only be paths on this machine."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from arbiter.protocols.errors import ConfigError

_LISTED = 5


def local_path(name: str, base: Path) -> Path:
    """Return the path that ``name`` has if it is relative to the folder ``base``. ``~`` is the home folder."""
    try:
        return Path(os.path.normpath(base.absolute() / Path(name).expanduser()))
    except RuntimeError:  # there is no such user
        return Path(os.path.normpath(base.absolute() / name))


def exists(path: Path) -> bool:
    """Return whether ``path`` exists. A name that no file can have does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_path(name: str, base: Path) -> bool:
    """Return whether ``name`` can only be a path: it begins with ``.``, ``/`` or ``~``, or with a folder in ``base``.

    A name of the Hugging Face hub that is in the cache of this machine is never a path.
    """
    if name.startswith((".", "/", "~")):
        return True
    first, slash, _ = name.partition("/")
    return bool(slash) and bool(first) and exists(base / first) and (base / first).is_dir() and not _is_cached(name)


def shown(name: str) -> str:
    """Return an absolute path below the working directory as a relative one; any other name unchanged."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else name


def refuse_missing(key: str, name: str) -> None:
    """Raise ``ConfigError`` naming ``key``, the path and similar names if ``name`` is an absolute path without a file.

    Such a name is never looked up at a hub.
    """
    path = Path(name)
    if not path.is_absolute() or exists(path):
        return
    near = _similar(path)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; {_content(path)}"
    raise ConfigError(
        f"{key}: there is no file or folder {name}{hint} It is not looked up at the Hugging Face hub (hf "
        "download OWNER/NAME fetches a model from there)"
    )


def _similar(path: Path) -> Sequence[str]:
    """Return up to three existing paths that differ from ``path`` in the first name that does not exist."""
    parent, name, rest = _first_missing(path)
    near = difflib.get_close_matches(name, _names(parent), n=3)
    whole = [str(parent / one / rest) if exists(parent / one / rest) else str(parent / one) for one in near]
    return list(dict.fromkeys(whole))


def _content(path: Path) -> str:
    parent, _, _ = _first_missing(path)
    names = _names(parent)
    if not names:
        return f"{parent} is empty."
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{parent} has {', '.join(names[:_LISTED])}{more}."


def _first_missing(path: Path) -> tuple[Path, str, Path]:
    """Return the deepest folder above ``path`` that exists, the name in it that does not, and what follows."""
    above = next(parent for parent in path.parents if exists(parent))
    name, *rest = path.relative_to(above).parts
    return above, name, Path(*rest)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []


def _is_cached(name: str) -> bool:
    """Return whether the hub's cache on this machine has a repository ``name`` (``OWNER/NAME``)."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    return exists(cache / f"models--{name.replace('/', '--')}")


def is_same_model(one: str, other: str) -> bool:
    """Return whether two names of a model probably mean the same one. It is not read.

    So do a relative path and an absolute one that ends with it, and two absolute ones of which the first does not
    exist here and both end with the same name: the folder moved.
    """
    if one == other:
        return True
    parts = [tuple(part for part in Path(name).parts if part not in (".", "..", "~")) for name in (one, other)]
    absolute = [Path(name).is_absolute() for name in (one, other)]
    if all(absolute):
        return parts[0][-1:] == parts[1][-1:] and not exists(Path(one))
    if not any(absolute):
        return False
    relative, whole = (parts[1], parts[0]) if absolute[0] else parts
    return bool(relative) and whole[-len(relative) :] == relative
