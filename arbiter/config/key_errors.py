"""msgspec's errors about a configuration, rewritten with the full names of its keys."""

import difflib
import re
import types
import typing
from typing import Any, Literal, get_args

import msgspec

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?")
_AT_KEY = re.compile(r"(?P<what>.*) - at `\$\.(?P<path>[^`]*)`")


def describe(error: msgspec.ValidationError, tree: dict[str, Any], root: type[msgspec.Struct]) -> str:
    """Return the message of ``error``, which reading ``tree`` as ``root`` raised.

    The full key comes first. For an unknown key the nearest known key follows, for a value that is not one of several
    choices the choices.
    """
    if "models.targets[...]" in str(error):  # msgspec does not name the table
        for name, table in tree["models"]["targets"].items():
            alone = {"models": {"target": table}}
            try:
                msgspec.convert(alone, root)
            except msgspec.ValidationError as found:
                return describe(found, alone, root).replace("models.target", f"models.targets.{name}", 1)
    return _describe(str(error), tree, root)


def _describe(message: str, tree: dict[str, Any], root: type[msgspec.Struct]) -> str:
    if unknown := _UNKNOWN.match(message):
        parents = [part for part in _parts(unknown["path"] or "") if part]
        known = _keys(parents, tree, root)
        near = difflib.get_close_matches(unknown["field"], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {'.'.join([*parents, unknown['field']])!r}; {hint}"
    if at_key := _AT_KEY.match(message):
        return f"{at_key['path']}: {at_key['what']}{_choices(_parts(at_key['path']), tree, root)}"
    return message


def _parts(path: str) -> list[str]:
    """The keys in a path of msgspec, which writes the items of a list or a table as ``[...]``."""
    return path.replace("[...]", "[]").split(".")


def _choices(path: list[str], tree: dict[str, Any], root: type[msgspec.Struct]) -> str:
    """The allowed values of the key at ``path`` if its type lists them."""
    if path[-1] == "backend":
        hint: Any = Literal[*_backends(path[:-1], tree, root)]
    else:
        hint = typing.get_type_hints(_table(path[:-1], tree, root), include_extras=True).get(path[-1])
    choices = next((option for option in _options(hint) if typing.get_origin(option) is Literal), None)
    return "" if choices is None else f"; one of {', '.join(get_args(choices))}"


def _backends(path: list[str], tree: dict[str, Any], root: type[msgspec.Struct]) -> tuple[str, ...]:
    """The backends that the table at ``path`` may have."""
    hint = typing.get_type_hints(_table(path[:-1], tree, root))[path[-1]]
    return tuple(option.__struct_config__.tag for option in _options(hint) if option is not types.NoneType)


def _keys(path: list[str], tree: dict[str, Any], root: type[msgspec.Struct]) -> list[str]:
    """The keys of the table at ``path``."""
    table = _table(path, tree, root)
    tag: str | None = table.__struct_config__.tag_field
    return [*([tag] if tag else []), *table.__struct_fields__]


def _table(path: list[str], tree: dict[str, Any], root: Any) -> Any:  # noqa: ANN401 - a class, known only at run time
    """The struct class that reads the table at ``path`` of ``tree``."""
    table = root
    for part in path:
        name, in_list, _ = part.partition("[")
        tree = {} if in_list else tree.get(name, {})
        table = _struct_in(typing.get_type_hints(table)[name], tree.get("backend"))
    return table


def _struct_in(hint: Any, backend: object) -> Any:  # noqa: ANN401 - a type hint has no narrower type
    """The struct class in a hint: the one of ``backend`` if there are several."""
    structs = [option for option in _options(hint) if isinstance(option, type) and issubclass(option, msgspec.Struct)]
    return next((option for option in structs if option.__struct_config__.tag == backend), structs[0])


def _options(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401 - as above
    """The members of a union or of a list, or the hint alone."""
    return get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union, tuple) else (hint,)
