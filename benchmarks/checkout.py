"""The source of a checkout: its packages, their imports, and repeated names. It is parsed with ``ast``, never imported.

Here, a *package* is a package or a single module directly in ``arbiter/``, or the folder ``actors/`` or ``protocols/``
at the root. The modules of these two folders are named ``arbiter.actors`` and ``arbiter.protocols``, even where a
checkout imports them without ``arbiter.``. Symbolic links are not followed, so that no file counts twice. ``__init__``
is not a package, but its imports count. ``__main__`` is left out, because it only starts the command line.

Imports inside functions, below ``TYPE_CHECKING`` and by ``import_module("...")`` count as well. A checkout declares the
order of its packages in ``pyproject.toml``, as ``[tool.arbiter] layers``.
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

LINKED = ("actors", "protocols")  # packages whose folders are at the root
COMMANDS = ("cli", "commands")  # packages whose modules may share a name with the module that they run
FACADE, PROGRAM = "__init__", "__main__"


class Import(NamedTuple):
    """An import of one module by another. Both names begin with ``arbiter``."""

    source: str
    target: str

    @property
    def packages(self) -> tuple[str, str]:
        return package_of(self.source), package_of(self.target)

    @property
    def is_between_packages(self) -> bool:
        source, target = self.packages
        return source != target and PROGRAM not in (source, target)

    def __str__(self) -> str:
        return f"{self.source} imports {self.target}"


class Source(msgspec.Struct, frozen=True):
    """The files and syntax trees of a checkout, by module, and the imports between its modules."""

    files: dict[str, Path]
    trees: dict[str, ast.Module]
    imports: list[Import]

    @property
    def packages(self) -> list[str]:
        return sorted({package_of(module) for module in self.files} - {FACADE, PROGRAM})


class Names(msgspec.Struct, frozen=True):
    """The names of ``total`` modules or classes, of which ``distinct`` are different.

    ``repeated`` has the modules of each name that is used several times. ``commands`` has the same for names that a
    command shares with the module that it runs.
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


def package_of(module: str) -> str:
    """Return the package of a module; for ``arbiter`` itself it is ``__init__``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else FACADE


def _files(root: Path) -> Iterator[Path]:
    """Yield the Python files. Symbolic links are not followed."""
    for top in ("arbiter", *LINKED):
        for folder, _, names in os.walk(root / top):
            yield from (Path(folder, name) for name in names if name.endswith(".py"))


def _module(file: Path) -> str:
    parts = file.with_suffix("").parts
    return _canonical(".".join(parts[:-1] if parts[-1] == FACADE else parts))


def _canonical(name: str) -> str:
    return f"arbiter.{name}" if name.partition(".")[0] in LINKED else name


def _nearest(name: str, modules: Iterable[str]) -> str:
    """Return the module of the checkout that ``name`` names or is defined in; empty if there is none."""
    name = _canonical(name)
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def imported_names(tree: ast.Module, package: str) -> set[str]:
    """Return what a module in ``package`` imports: modules, and names in modules."""
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
    """Return the layers that the checkout declares, the lowest first; empty if it declares none."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return project.get("tool", {}).get("arbiter", {}).get("layers", [])


def cycles(imports: Iterable[Import]) -> list[list[str]]:
    """Return the groups of packages that import each other, directly or through other packages."""
    below = _below(imports)
    groups = {frozenset(other for other in reached if package in below[other]) for package, reached in below.items()}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def heights(imports: Iterable[Import]) -> dict[str, int]:
    """Return for each package the number of packages in its longest chain of imports; a cycle counts as one package."""
    below = _below(imports)

    @functools.cache
    def height(package: str) -> int:
        return 1 + max((height(other) for other in below[package] if package not in below[other]), default=0)

    return {package: height(package) for package in sorted(below)}


def _below(imports: Iterable[Import]) -> dict[str, set[str]]:
    """Return what each package imports, directly or through others."""
    direct: defaultdict[str, set[str]] = defaultdict(set)
    for source, target in (one.packages for one in imports if one.is_between_packages):
        direct[source].add(target)
        direct[target] |= set()
    return {package: _reached(package, direct) for package in direct}


def _reached(start: str, direct: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = direct[waiting.pop()] - reached
        reached |= new
        waiting.extend(new)
    return reached


def upward(imports: Iterable[Import], layers: list[list[str]]) -> list[Import]:
    """Return the imports between packages that do not go to a lower layer.

    A package that is in no layer counts as above all others.
    """
    ranks = {package: rank for rank, layer in enumerate(layers) for package in layer}

    def goes_up(one: Import) -> bool:
        source, target = (ranks.get(package, len(layers)) for package in one.packages)
        return target >= source

    return [one for one in imports if one.is_between_packages and goes_up(one)]


def least_upward(imports: list[Import]) -> list[list[str]]:
    """Return an order of the packages in which the fewest imports go up. Only imports within cycles do."""
    order = {package: rank for group in cycles(imports) for rank, package in enumerate(_lowest_first(group, imports))}
    height = heights(imports)
    return [[package] for package in sorted(height, key=lambda package: (height[package], order.get(package, 0)))]


def _lowest_first(group: list[str], imports: Iterable[Import]) -> tuple[str, ...]:
    """Return the best order of a cycle by exact search.

    The time doubles with each package; 15 packages take about a second.
    """
    counts = Counter(one.packages for one in imports)

    @functools.cache
    def best(left: frozenset[str]) -> tuple[int, tuple[str, ...]]:
        orders: list[tuple[int, tuple[str, ...]]] = []
        for package in left:
            upwards, order = best(left - {package})
            orders.append((upwards + sum(counts[package, other] for other in left - {package}), (package, *order)))
        return min(orders) if orders else (0, ())

    return best(frozenset(group))[1]


def module_names(source: Source) -> Names:
    """Return the last parts of the modules' names, without ``__init__`` and ``__main__``."""
    plain = [module for module, file in source.files.items() if file.stem not in (FACADE, PROGRAM)]
    return _names([(module.rpartition(".")[2], module) for module in plain], source.imports)


def class_names(source: Source) -> Names:
    """Return the public classes at the top level of the modules."""
    classes = [
        (node.name, module)
        for module, tree in source.trees.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    return _names(classes, source.imports)


def _names(pairs: list[tuple[str, str]], imports: Iterable[Import]) -> Names:
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for name, module in pairs:
        by_name[name].append(module)
    several = {name: modules for name, modules in sorted(by_name.items()) if len(modules) > 1}
    commands = {name: modules for name, modules in several.items() if _command_and_run(modules, imports)}
    repeated = {name: modules for name, modules in several.items() if name not in commands}
    return Names(len(pairs), len(by_name), repeated, commands)


def _command_and_run(modules: list[str], imports: Iterable[Import]) -> bool:
    """Return whether these are a command and the one module that it imports and runs."""
    commands = [module for module in modules if package_of(module) in COMMANDS]
    others = [module for module in modules if module not in commands]
    return len(commands) == len(others) == 1 and Import(commands[0], others[0]) in imports
