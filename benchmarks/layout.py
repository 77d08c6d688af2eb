"""Report the layout of a checkout: packages, import graph, repeated names, and the cost of its imports.

    python benchmarks/layout.py [CHECKOUT ...] [--no-imports] [--rounds 9] [--python PYTHON] [--json]

Several checkouts are printed side by side; the default is the one that holds this file. ``checkout.py`` in the same
folder says what a package is, and which imports count. An import is *upward* unless its target is in a lower layer. The
layers are those that the checkout declares; if it declares none, the order with the fewest upward imports is used.

CPU seconds (user and system) are medians over ``--rounds`` rounds. The rounds alternate between the checkouts, each run
is a new process of ``--python``, and a first round, which writes the byte code, does not count.
"""

import os
import resource
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Annotated

import cyclopts
import msgspec
from checkout import (
    Import,
    Names,
    class_names,
    cycles,
    declared_layers,
    heights,
    least_upward,
    module_names,
    read_source,
    upward,
)
from cyclopts import Parameter

HERE = Path(__file__).parent.parent
BARE = "python -c pass"

_COUNT = "print(len(sys.modules), sys.modules['arbiter'].__file__)"
_RUN_AND_COUNT = f"""
import runpy, sys
module, sys.argv[1:] = sys.argv[1], sys.argv[2:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit:
    pass
{_COUNT}
"""


class Cost(msgspec.Struct, frozen=True):
    """CPU ``seconds`` of a command, their ratio to those of ``python -c pass``, and the number of loaded modules."""

    seconds: float
    ratio: float
    modules: int


class Layout(msgspec.Struct, frozen=True):
    """All measurements of a checkout.

    ``layers`` is the length of the longest chain of imports between packages, where a cycle counts as one package;
    ``layers_downward`` is the length of the longest chain without an upward import.
    """

    checkout: str
    packages: list[str]
    layers: int
    layers_downward: int
    cycles: list[list[str]]
    upward: list[str]
    loose: list[str]
    modules: Names
    classes: Names
    costs: dict[str, Cost]


def main(
    *checkouts: Path,
    imports: bool = True,
    rounds: int = 9,
    python: Path = Path(sys.executable),
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure each checkout."""
    roots = [checkout.resolve() for checkout in checkouts or (HERE,)]
    costs = (
        import_costs(roots, python.absolute(), rounds) if imports else {}
    )  # absolute: the runs have other working directories
    layouts = [measure(root, costs.get(root, {})) for root in roots]
    sys.stdout.write(msgspec.json.encode(layouts).decode() if as_json else _report(layouts))
    sys.stdout.write("\n")


def measure(root: Path, costs: dict[str, Cost]) -> Layout:
    """Measure the checkout in ``root``."""
    source = read_source(root)
    up = upward(source.imports, declared_layers(root) or least_upward(source.imports))
    return Layout(
        checkout=str(root),
        packages=source.packages,
        layers=_height(source.imports),
        layers_downward=_height([one for one in source.imports if one not in up]),
        cycles=cycles(source.imports),
        upward=[str(one) for one in up],
        loose=[file.name for file in source.files.values() if file.parent == root / "arbiter"],
        modules=module_names(source),
        classes=class_names(source),
        costs=costs,
    )


def _height(imports: list[Import]) -> int:
    return max(heights(imports).values(), default=0)


def import_costs(roots: list[Path], python: Path, rounds: int) -> dict[Path, dict[str, Cost]]:
    """Measure ``import arbiter`` and ``arbiter --version`` in each checkout."""
    runs = [
        (root, name, arguments)
        for root in roots
        for name, (arguments, _) in {BARE: (["-c", "pass"], []), **_programs(root)}.items()
    ]
    readings: defaultdict[tuple[Path, str], list[float]] = defaultdict(list)
    for _ in range(rounds + 1):  # the first round writes the byte code
        for root, name, arguments in runs:
            readings[root, name].append(_cpu(python, root, arguments))
    seconds = {key: median(values[1:]) for key, values in readings.items()}
    return {
        root: {
            name: Cost(seconds[root, name], seconds[root, name] / seconds[root, BARE], _loaded(python, root, counting))
            for name, (_, counting) in _programs(root).items()
        }
        for root in roots
    }


def _programs(root: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Return by name the Python arguments that run a program, and those that run it and print what it has loaded."""
    module = "arbiter" if (root / "arbiter" / "__main__.py").exists() else "arbiter.cli"
    return {
        "import arbiter": (["-c", "import arbiter"], ["-c", f"import arbiter, sys\n{_COUNT}"]),
        "arbiter --version": (["-m", module, "--version"], ["-c", _RUN_AND_COUNT, module, "--version"]),
    }


def _cpu(python: Path, root: Path, arguments: list[str]) -> float:
    """Run a child process, and return its CPU seconds, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(python, root, arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run(python: Path, root: Path, arguments: list[str]) -> str:
    command, environment = [str(python), *arguments], {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    return done.stdout


def _loaded(python: Path, root: Path, arguments: list[str]) -> int:
    """Return the number of loaded modules. Exits with an error if ``arbiter`` is not that of the checkout."""
    count, file = _run(python, root, arguments).splitlines()[-1].split(" ", 1)
    if root not in Path(file).resolve().parents:
        raise SystemExit(f"{python} imported {file}, which is not in {root}")
    return int(count)


def _report(layouts: list[Layout]) -> str:
    rows: dict[str, Callable[[Layout], str]] = {
        "packages": lambda one: str(len(one.packages)),
        "layers of the import graph, a cycle as one package": lambda one: str(one.layers),
        "layers without upward imports": lambda one: str(one.layers_downward),
        "cycles (packages in them)": lambda one: f"{len(one.cycles)} ({sum(map(len, one.cycles))})",
        "upward imports": lambda one: str(len(one.upward)),
        "single modules in arbiter/": lambda one: str(len(one.loose)),
        "module names used several times": lambda one: _share(one.modules),
        "public class names used several times": lambda one: _share(one.classes),
        "CPU of import arbiter": lambda one: _cost(one, layouts[0], "import arbiter"),
        "CPU of arbiter --version": lambda one: _cost(one, layouts[0], "arbiter --version"),
    }
    lines = [f"| | {' | '.join(one.checkout for one in layouts)} |", "|---" * (len(layouts) + 1) + "|"]
    lines += [f"| {label} | {' | '.join(map(cell, layouts))} |" for label, cell in rows.items()]
    return "\n".join(lines + [line for one in layouts for line in _details(one)])


def _share(names: Names) -> str:
    several = len(names.repeated)
    share = f"{several} of {names.distinct} ({several / names.distinct:.1%})"
    return f"{share}; {len(names.commands)} more shared by a command and its module"


def _cost(one: Layout, first: Layout, name: str) -> str:
    if not one.costs:
        return "-"
    cost = one.costs[name]
    text = f"{cost.seconds:.3f} s, {cost.ratio:.1f} × bare Python, {cost.modules} modules"
    return text if one is first else f"{text}, {cost.seconds / first.costs[name].seconds:.2f} × the first checkout"


def _details(one: Layout) -> Iterator[str]:
    """The lists behind the counts."""
    yield f"\n{one.checkout}:"
    yield from (f"- cycle: {', '.join(cycle)}" for cycle in one.cycles)
    yield from (f"- upward: {line}" for line in one.upward)
    for kind, names in (("module", one.modules), ("class", one.classes)):
        yield from (f"- {kind} name {name}: {', '.join(modules)}" for name, modules in names.repeated.items())
        yield from (f"- command's {kind} name {name}: {', '.join(modules)}" for name, modules in names.commands.items())


if __name__ == "__main__":
    cyclopts.run(main)
