"""Configuration files: finding them, reading them, and merging the options that override their keys."""

import tomllib
import typing
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from arbiter.config.data_names import is_drawn
from arbiter.config.model_tables import DEFAULT_BACKEND
from arbiter.protocols.errors import ConfigError


def built_in() -> dict[str, Path]:
    """The configurations that come with Arbiter, by name."""
    here = Path(__file__).parent.parent
    folder = next((found for found in (here / "configs", here.parent / "configs") if found.is_dir()), here)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find(name: str) -> Path:
    """Return the file at the path ``name``, or the built-in configuration of that name.

    Raises ``ConfigError`` with the names of the built-in configurations if there is neither.
    """
    with suppress(OSError):  # a name that no file can have
        if Path(name).is_file():
            return Path(name)
    known = built_in()
    if name in known:
        return known[name]
    raise ConfigError(
        f"there is no configuration file {name!r}, and no built-in configuration of that name: correct the path, or "
        f"use one of {', '.join(known)}"
    )


def read(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises ``ConfigError`` if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def stored_or_written(path: Path) -> dict[str, Any]:
    """Return the tables of ``path``. Raises as ``read``.

    The configuration in the folder of a run has all keys that its version knew. One without ``token_exact`` is of a run
    whose models read all steps as text, so that is what it means.
    """
    tree = read(path)
    is_stored = path.name == "config.toml" and (path.parent / "versions.json").is_file()
    return {"token_exact": False, **tree} if is_stored else tree


def merged(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``tree`` with the keys of the nested ``changes`` set."""
    result = dict(tree)
    for key, value in changes.items():
        inner = result.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            value = merged(typing.cast("dict[str, Any]", inner), typing.cast("dict[str, Any]", value))
        elif inner is not None and isinstance(value, dict):
            continue  # the file has no table there: parsing refuses that
        result[key] = value
    return result


def without_limit_of_other_data(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``tree`` without the limit of its data, if ``changes`` name other data.

    A limit is for the data next to it. Other data are used whole, unless problems are drawn from a seed without end.
    """
    data, named = tree.get("data"), changes.get("data", {}).get("source")
    if not isinstance(data, dict) or named is None or is_drawn(named):
        return tree
    table = typing.cast("dict[str, Any]", data)
    if table.get("source") == named:
        return tree
    return {**tree, "data": {key: value for key, value in table.items() if key != "limit"}}


def with_model_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """Return ``tree`` with the defaults that depend on the model: its backend, and the judge's prompt."""
    models = tree.get("models")
    if not isinstance(models, dict):
        return tree
    tables = {name: _with_default(name, table) for name, table in typing.cast("dict[str, Any]", models).items()}
    return {**tree, "models": tables}


def _with_default(name: str, table: object) -> object:
    if not isinstance(table, dict):
        return table
    if name == "targets":
        return {name: _with_default("", one) for name, one in typing.cast("dict[str, Any]", table).items()}
    defaults = {"backend": DEFAULT_BACKEND, **({"prompt": "judge"} if name == "judge" else {})}
    return {**defaults, **typing.cast("dict[str, Any]", table)}
