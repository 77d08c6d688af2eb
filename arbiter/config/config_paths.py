"""The keys of a configuration that hold paths: relative paths are relative to the file, and become absolute.

A file of ``examples`` is read here, so that the configuration holds its content.
A path that exists only relative to the working directory is used too, with a warning. A name of the hub stays.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from arbiter.config.data_names import is_data_name
from arbiter.config.local_paths import exists, is_path, local_path, refuse_missing
from arbiter.protocols.errors import ConfigError

log = logging.getLogger("arbiter.config")

Tree = dict[str, Any]
_IN_PROCESS = (None, "transformers", "draft-head")
_POCKET = "pocket:"


def with_absolute_paths(tree: Tree, base: Path, source: str | None) -> Tree:
    """Return ``tree`` with the paths in it made absolute. Relative ones are relative to the folder ``base``.

    ``source`` names the file for the warning about a path that is relative to the working directory. None: it is no
    file, and nothing is warned about. Values of a wrong type stay as they are; parsing refuses them.
    """
    found = _copied(tree)
    for table, place in _models(found):
        if isinstance(file := table.get("examples"), str):
            table["examples"] = _examples(f"{place}.examples", file, base, source)
    for table, key, name in _paths(found):
        value: object = table.get(key)
        if isinstance(value, str):
            table[key] = (
                absolute_source(name, value, base, source) if key == "source" else _located(name, value, base, source)
            )
    return found


def absolute_source(key: str, name: str, base: Path, source: str | None) -> str:
    """Return a source of problems as an absolute path if it is a file or a folder, with the subset and split after it.

    A relative path is relative to ``base``, else to the working directory; ``key`` and ``source`` are for the warning
    about that. The name of a known data set stays, even where a folder has it too: ``./gsm8k`` is the folder.
    """
    if is_data_name(name):
        return name
    for colons in range(3):
        path, *parts = name.rsplit(":", colons)
        places = local_path(path, base), local_path(path, Path.cwd())
        if path and len(parts) == colons and any(exists(place) and (not parts or place.is_dir()) for place in places):
            return ":".join([_located(key, path, base, source), *parts])
    return _located(key, name, base, source) if name.startswith((".", "/", "~")) else name


def _paths(tree: Tree) -> Iterator[tuple[Tree, str, str]]:
    """Yield each table with a key that may hold a path, the key, and its full name."""
    data = _table(tree, "data")
    yield data, "source", "data.source"
    sandbox = _table(data, "sandbox")
    if "/" in str(sandbox.get("python", "")):  # other names are looked for in PATH
        yield sandbox, "python", "data.sandbox.python"
    for model, place in _models(tree):
        if model.get("backend") in _IN_PROCESS:
            yield model, "model", f"{place}.model"
        yield model, "tokenizer", f"{place}.tokenizer"
        server = _table(model, "server")
        yield server, "path", f"{place}.server.path"
        yield _table(server, "speculation"), "model", f"{place}.server.speculation.model"
        if "/" in str(server.get("python", "")):  # other names are looked for in PATH
            yield server, "python", f"{place}.server.python"


def _models(tree: Tree) -> Iterator[tuple[Tree, str]]:
    """Yield the table of each model and its full name."""
    models = _table(tree, "models")
    targets = {f"targets.{name}": table for name, table in _table(models, "targets").items()}
    for name, table in {**models, **targets}.items():
        if name != "targets" and isinstance(table, dict):
            yield cast("Tree", table), f"models.{name}"


def _examples(key: str, file: str, base: Path, source: str | None) -> list[object]:
    """Return the objects in ``file``, one in JSON per line. Raises ``ConfigError`` naming ``key`` and the line."""
    path = local_path(_located(key, file, base, source), base)
    refuse_missing(key, str(path))
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a text may hold other separators of lines
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: cannot read {path}: {error}; name a file, or give a list of examples") from error
    return [_decoded(f"{key}: {path}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]


def _decoded(place: str, line: str) -> object:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{place}: not a JSON object: {error}") from error


def _located(key: str, name: str, base: Path, source: str | None) -> str:
    if not name or name.startswith(_POCKET):
        return name
    near, here = local_path(name, base), local_path(name, Path.cwd())
    if near == here:
        return str(near) if exists(near) or is_path(name, base) else name
    if exists(near):
        if exists(here) and source is not None:
            log.warning(
                "%s: %s: %r is next to the file and in the working directory; used: %s", source, key, name, near
            )
        return str(near)
    if exists(here):
        if source is not None:
            right = os.path.relpath(here, base.absolute())
            log.warning(
                "%s: %s: there is no %s, so %s is used, from the working directory. Paths are relative to the file: "
                "write %r",
                *(source, key, near, here, right),
            )
        return str(here)
    if is_path(name, base):
        return str(near)
    return str(here) if is_path(name, Path.cwd()) else name


def _table(tree: Tree, key: str) -> Tree:
    found = tree.get(key)
    return cast("Tree", found) if isinstance(found, dict) else {}


def _copied(tree: Tree) -> Tree:
    return {key: _copied(cast("Tree", value)) if isinstance(value, dict) else value for key, value in tree.items()}
