"""The source of a checkout, read with ``ast`` and never imported: its rooms, their imports, and repeated names.

A *room* is a package or a loose module directly in ``arbiter/``, or a folder ``actors/`` or ``protocols/`` at the root.
The modules of these two are named ``arbiter.actors`` and ``arbiter.protocols`` here, also where a checkout imports them
without ``arbiter.``. Symbolic links are not followed, so that no file counts twice. ``__init__`` is not a room, but its
imports count. ``__main__`` is left out, because it only starts the command line.

Imports inside functions, below ``TYPE_CHECKING`` and by ``import_module("...")`` count as well. A checkout declares the
order of its rooms in ``pyproject.toml``, as ``[tool.arbiter] layers``.
"""

import ast
import functools
import os
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import msgspec

LINKED = ("actors", "protocols")  # rooms whose folders lie at the root
COMMANDS = ("cli", "commands")  # rooms whose modules may have the name of what they run
FACADE, PROGRAM = "__init__", "__main__"


class Import(NamedTuple):
    """A module that imports another one, both named from ``arbiter`` on."""

    source: str
    target: str

    @property
    def rooms(self) -> tuple[str, str]:
        return room_of(self.source), room_of(self.target)

    @property
    def is_between_rooms(self) -> bool:
        source, target = self.rooms
        return source != target and PROGRAM not in (source, target)

    def __str__(self) -> str:
        return f"{self.source} imports {self.target}"


class Source(msgspec.Struct, frozen=True):
    """The files and syntax trees of a checkout by module, and the imports between them."""

    files: dict[str, Path]
    trees: dict[str, ast.Module]
    imports: list[Import]

    @property
    def rooms(self) -> list[str]:
        return sorted({room_of(module) for module in self.files} - {FACADE, PROGRAM})


class Names(msgspec.Struct, frozen=True):
    """``total`` things have ``distinct`` names. ``repeated`` lists the modules of each name that stands for several;
    ``commands`` lists apart the names that a command shares with what it runs.
    """

    total: int
    distinct: int
    repeated: dict[str, list[str]]
    commands: dict[str, list[str]]


def read_source(root: Path) -> Source:
    """Parse the checkout in ``root``."""
    files = {_module(file.relative_to(root)): file for file in sorted(_files(root))}
    trees = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in files.items()}
    imports = {
        Import(module, target)
        for module, tree in trees.items()
        for name in imported_names(tree, module if files[module].stem == FACADE else module.rpartition(".")[0])
        if (target := _nearest(name, files)) not in ("", module)
    }
    return Source(files, trees, sorted(imports))


def room_of(module: str) -> str:
    """The room of a module; that of ``arbiter`` itself is ``__init__``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else FACADE


def _files(root: Path) -> Iterator[Path]:
    """The Python files, without those behind symbolic links."""
    for top in ("arbiter", *LINKED):
        for folder, _, names in os.walk(root / top):
            yield from (Path(folder, name) for name in names if name.endswith(".py"))


def _module(file: Path) -> str:
    parts = file.with_suffix("").parts
    return _canonical(".".join(parts[:-1] if parts[-1] == FACADE else parts))


def _canonical(name: str) -> str:
    return f"arbiter.{name}" if name.partition(".")[0] in LINKED else name


def _nearest(name: str, modules: Iterable[str]) -> str:
    """The module that ``name`` is, or is in; empty if that is not one of the checkout's."""
    name = _canonical(name)
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def imported_names(tree: ast.Module, package: str) -> set[str]:
    """What a module in ``package`` imports: modules, and names in modules."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom():
                base = resolve_name("." * node.level + (node.module or ""), package)
                names |= {f"{base}.{alias.name}" for alias in node.names}
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                names.add(resolve_name(name, package))
            case _:
                pass
    return names


def declared_layers(root: Path) -> list[list[str]]:
    """The floors that the checkout declares, the lowest first; empty if it declares none."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return project.get("tool", {}).get("arbiter", {}).get("layers", [])


def circles(imports: Iterable[Import]) -> list[list[str]]:
    """The groups of rooms that import each other, directly or through others."""
    below = _below(imports)
    groups = {frozenset(other for other in found if room in below[other]) for room, found in below.items()}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def floors(imports: Iterable[Import]) -> dict[str, int]:
    """How long the longest chain of imports down from each room is, itself included; a circle counts as one room."""
    below = _below(imports)

    @functools.cache
    def floor(room: str) -> int:
        return 1 + max((floor(other) for other in below[room] if room not in below[other]), default=0)

    return {room: floor(room) for room in sorted(below)}


def _below(imports: Iterable[Import]) -> dict[str, set[str]]:
    """What each room imports, directly or through others."""
    direct: defaultdict[str, set[str]] = defaultdict(set)
    for source, target in (one.rooms for one in imports if one.is_between_rooms):
        direct[source].add(target)
        direct[target] |= set()
    return {room: _reached(room, direct) for room in direct}


def _reached(start: str, direct: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = direct[waiting.pop()] - reached
        reached |= new
        waiting.extend(new)
    return reached


def upward(imports: Iterable[Import], layers: list[list[str]]) -> list[Import]:
    """The imports between rooms that do not go to a lower layer. A room that is in no layer is above all others."""
    ranks = {room: rank for rank, layer in enumerate(layers) for room in layer}

    def goes_up(one: Import) -> bool:
        source, target = (ranks.get(room, len(layers)) for room in one.rooms)
        return target >= source

    return [one for one in imports if one.is_between_rooms and goes_up(one)]


def least_upward(imports: list[Import]) -> list[list[str]]:
    """An order of the rooms in which the fewest imports go up, all of them within circles."""
    order = {room: rank for group in circles(imports) for rank, room in enumerate(_lowest_first(group, imports))}
    floor = floors(imports)
    return [[room] for room in sorted(floor, key=lambda room: (floor[room], order.get(room, 0)))]


def _lowest_first(group: list[str], imports: Iterable[Import]) -> tuple[str, ...]:
    """The best order of a circle, by exact search: the time doubles with each room, and is a second at about 15."""
    counts = Counter(one.rooms for one in imports)

    @functools.cache
    def best(left: frozenset[str]) -> tuple[int, tuple[str, ...]]:
        orders: list[tuple[int, tuple[str, ...]]] = []
        for room in left:
            upwards, order = best(left - {room})
            orders.append((upwards + sum(counts[room, other] for other in left - {room}), (room, *order)))
        return min(orders) if orders else (0, ())

    return best(frozenset(group))[1]


def module_names(source: Source) -> Names:
    """The last parts of the modules' names, without ``__init__`` and ``__main__``."""
    plain = [module for module, file in source.files.items() if file.stem not in (FACADE, PROGRAM)]
    return _names([(module.rpartition(".")[2], module) for module in plain], source.imports)


def class_names(source: Source) -> Names:
    """The public classes at the top of the modules."""
    classes = [
        (node.name, module)
        for module, tree in source.trees.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    return _names(classes, source.imports)


def _names(places: list[tuple[str, str]], imports: Iterable[Import]) -> Names:
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for name, module in places:
        by_name[name].append(module)
    several = {name: modules for name, modules in sorted(by_name.items()) if len(modules) > 1}
    commands = {name: modules for name, modules in several.items() if _command_and_run(modules, imports)}
    repeated = {name: modules for name, modules in several.items() if name not in commands}
    return Names(len(places), len(by_name), repeated, commands)


def _command_and_run(modules: list[str], imports: Iterable[Import]) -> bool:
    """Whether these are a command and the one module that it runs: it imports that."""
    commands = [module for module in modules if room_of(module) in COMMANDS]
    others = [module for module in modules if module not in commands]
    return len(commands) == len(others) == 1 and Import(commands[0], others[0]) in imports
