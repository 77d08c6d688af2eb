"""The configuration reference: one Markdown table for each TOML table, read from the code that parses it.

The explanation of a key is the docstring below its field. ``sections`` raises ``LookupError`` if a key has none, so the
site does not build without it.
"""

import ast
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

import msgspec

from arbiter.config import model_tables
from arbiter.config.base import ConfigTable
from arbiter.config.config import Config
from arbiter.config.model_tables import DEFAULT_BACKEND, ModelTable

_NAMES = {bool: "true or false", int: "integer", float: "number", str: "string"}
_ORDER = (
    *("models", "thresholds", "trigger", "pacing", "pomdp", "glimpse", "boundary", "sampling", "limits", "data", "log"),
    *("serve", "ray"),
)


class Key(typing.NamedTuple):
    """One row of the reference. ``name`` is the full key, with the names of its tables."""

    name: str
    type: str
    default: str
    text: str


class Section(typing.NamedTuple):
    """One TOML table: its heading, what it is for, and its keys."""

    heading: str
    text: str
    keys: list[Key]


def sections() -> Iterator[Section]:
    """The tables of a configuration, in the order of the page.

    Raises ``LookupError`` naming a field that has no docstring.
    """
    yield Section("Top level", "These keys come before the first table.", _keys(Config, ""))
    for name in _ORDER:
        yield from _tables(typing.get_type_hints(Config)[name], name)


def page() -> str:
    """The tables as Markdown. The first row of a key has its full name as an anchor."""
    anchors: set[str] = set()
    return "\n\n".join(_markdown(section, anchors) for section in sections())


def _tables(hint: Any, path: str) -> Iterator[Section]:  # noqa: ANN401 - a type hint has no narrower type
    """The section of a table, and those of the tables in it."""
    structs = _structs(hint)
    if not structs:
        return
    if issubclass(structs[0], ModelTable):
        yield from _model_tables(structs, path)
        return
    (table,) = structs
    heading = f"`[{path}]`"
    yield Section(heading, _doc(table), _keys(table, path))
    if table is model_tables.ModelTables:
        yield from _tables(typing.get_type_hints(table)["router"], f"{path}.NAME")  # the role with every backend
        return
    for name, inner in typing.get_type_hints(table).items():
        yield from _tables(inner, f"{path}.{name}")


def _model_tables(structs: list[type[msgspec.Struct]], path: str) -> Iterator[Section]:
    """The keys of all models, those of each backend, and the tables in them."""
    backends = _literal(model_tables.Backend)
    tag = Key(f"{path}.backend", backends, f'`"{DEFAULT_BACKEND}"`', _alias_doc("Backend"))
    names = "`NAME` is `draft`, `target`, `prm`, `router`, `judge` or `targets.NAME`."
    yield Section(f"`[{path}]`", f"{_doc(ModelTable)} {names}", [tag, *_keys(ModelTable, path)])
    for struct in structs:
        backend = struct.__struct_config__.tag
        own = [name for name in struct.__struct_fields__ if name in _docs(struct)]
        yield Section(f'`[{path}]` with `backend = "{backend}"`', _doc(struct), _keys(struct, path, own))
    inner = {name: hint for struct in structs for name, hint in typing.get_type_hints(struct).items()}
    for name, hint in inner.items():
        yield from _tables(hint, f"{path}.{name}")


def _keys(table: type[msgspec.Struct], path: str, names: list[str] | None = None) -> list[Key]:
    hints = typing.get_type_hints(table, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(table)}
    docs = {name: text for base in reversed(table.__mro__) for name, text in _docs(base).items()}
    missing = [name for name in names or fields if name not in docs]
    if missing:
        raise LookupError(f"{table.__name__}.{missing[0]} has no docstring below it: explain the key there")
    return [
        Key(
            f"{path}.{name}".removeprefix("."),
            _type(hints[name], f"{path}.{name}".removeprefix(".")),
            _default(fields[name]),
            docs[name],
        )
        for name in names or fields
    ]


def _type(hint: Any, path: str) -> str:  # noqa: ANN401 - as above
    """A type in words, with its range."""
    if get_origin(hint) in (types.UnionType, typing.Union):
        parts = [option for option in get_args(hint) if option is not types.NoneType]
        if structs := _structs(hint):
            return f"table [`[{path}]`](#{_anchor(_table_path(path, structs))})"
        return " or ".join(_type(option, path) for option in parts)
    if get_origin(hint) is typing.Annotated:
        base, *metas = get_args(hint)
        return " ".join([_type(base, path), *(_range(meta) for meta in metas)]).strip()
    if get_origin(hint) is Literal:
        return _literal(hint)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if Ellipsis in inner:
            return f"list of: {_type(inner[0], path)}"
        return f"list of {len(inner)}: {_type(inner[0], path)}"
    if get_origin(hint) is dict and get_args(hint)[1] is str:
        return "table of strings"
    if get_origin(hint) is dict:
        return f"tables [`[{path}.NAME]`](#{_anchor('models.NAME')})"
    if structs := _structs(hint):
        return f"table [`[{path}]`](#{_anchor(_table_path(path, structs))})"
    return _NAMES[hint]


def _table_path(path: str, structs: list[type[msgspec.Struct]]) -> str:
    return "models.NAME" if issubclass(structs[0], ModelTable) else path


def _range(meta: msgspec.Meta) -> str:
    """A range in words."""
    if meta.min_length:
        return "that is not empty"
    if meta.ge is not None and meta.le is not None:
        return f"from {meta.ge} to {_number(meta.le)}"
    low = f"≥ {meta.ge}" if meta.ge is not None else f"> {meta.gt}" if meta.gt is not None else ""
    high = f"≤ {_number(meta.le)}" if meta.le is not None else f"< {meta.lt}" if meta.lt is not None else ""
    return ", ".join(filter(None, (low, high)))


def _number(value: float) -> str:
    return f"{value:g}".replace("e+0", "e")


def _literal(hint: Any) -> str:  # noqa: ANN401 - as above
    words = [f'`"{word}"`' for word in get_args(hint)]
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _default(field: Any) -> str:  # noqa: ANN401 - msgspec's own type is not exported
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if value is None:
        return "not set"
    if isinstance(value, msgspec.Struct) or value == {}:
        return "–"
    return f"`{msgspec.json.encode(value).decode()}`"


def _structs(hint: Any) -> list[type[msgspec.Struct]]:  # noqa: ANN401 - as above
    options = get_args(hint) if get_origin(hint) in (types.UnionType, typing.Union, tuple) else (hint,)
    return [option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)]


def _doc(table: type[msgspec.Struct]) -> str:
    return " ".join((inspect.getdoc(table) or "").split())


@cache
def _docs(table: type) -> dict[str, str]:
    """The docstrings below the fields that a class itself declares, without line breaks."""
    if not issubclass(table, msgspec.Struct) or table in (msgspec.Struct, ConfigTable):
        return {}
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(table))).body
    return _docstrings(node.body) if isinstance(node, ast.ClassDef) else {}


def _alias_doc(name: str) -> str:
    """The docstring below a type alias of the models' tables."""
    return _docstrings(ast.parse(inspect.getsource(model_tables)).body)[name]


def _docstrings(body: list[ast.stmt]) -> dict[str, str]:
    found: dict[str, str] = {}
    for node, below in pairwise(body):
        match node, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(inspect.cleandoc(text).split())
            case _:
                pass
    return found


def _markdown(section: Section, anchors: set[str]) -> str:
    lines = [f"## {section.heading} {{ #{_anchor(section.heading)} }}", "", section.text, ""]
    lines += ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    for key in section.keys:
        name = f"`{key.name.rpartition('.')[2]}`"
        if key.name not in anchors:
            name += f"{{ #{key.name} }}"
            anchors.add(key.name)
        cells = (name, *(cell.replace("|", "\\|") for cell in key[1:]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _anchor(text: str) -> str:
    """The anchor of a heading, or of a table's path: ``table-limits`` for ``[limits]``."""
    return "table-" + "-".join(re.findall(r"\w+", text.replace("with `backend = ", "").lower()))
