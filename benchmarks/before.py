"""Compare the CPU time of the ring with that of another checkout.

    python benchmarks/before.py CHECKOUT [--python PYTHON] [--rounds 5] [--problems 150] [--most 100] [--json]

The ``benchmarks/overhead.py`` of each checkout measures it, in a new process, and the checkouts take turns. The figures
are CPU microseconds per step: medians of the rounds. The ratio is the median of the ratios of the rounds.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Annotated

import cyclopts
import msgspec
from cyclopts import Parameter

HERE = Path(__file__).parent.parent
HTTP = {"loop": "a plain loop over HTTP", "off": "the ring over HTTP, no log", "on": "the ring over HTTP, log"}


class Row(msgspec.Struct, frozen=True):
    """CPU microseconds per step in this checkout and in the other one, and the ratio of both."""

    name: str
    here: float
    before: float
    ratio: float


class _Http(msgspec.Struct, frozen=True):
    loop: float
    off: float
    on: float


class _InProcess(msgspec.Struct, frozen=True):
    problems: int
    cpu: float


class _Overhead(msgspec.Struct, frozen=True):
    http: _Http
    in_process: list[_InProcess]


def main(
    before: Path,
    *,
    python: Path = Path(sys.executable),
    rounds: int = 5,
    problems: int = 150,
    most: int = 100,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure both checkouts in turn, and print the table.

    Parameters
    ----------
    before
        The other checkout, for example one made with ``git worktree add ../before ef65c79``.
    python
        The interpreter with what the other checkout needs.
    rounds
        How often each checkout is measured.
    problems
        The number of problems over HTTP.
    most
        The largest number of problems in flight in process.
    """
    options = ["--problems", str(problems), "--repeats", "1", "--most", str(most)]
    here: list[dict[str, float]] = []
    there: list[dict[str, float]] = []
    for _ in range(rounds):
        here.append(measured(HERE, Path(sys.executable), options))
        there.append(measured(before.resolve(), python, options))
    rows = [row(name, [one[name] for one in here], [one[name] for one in there]) for name in here[0]]
    sys.stdout.write(f"{msgspec.json.encode(rows).decode()}\n" if as_json else table(rows))


def measured(checkout: Path, python: Path, options: list[str]) -> dict[str, float]:
    """Return the CPU microseconds per step, by what was measured. Raises ``SystemExit`` if the checkout fails."""
    ended = subprocess.run(  # noqa: S603 - a checkout that the user names
        [python, "benchmarks/overhead.py", *options, "--json"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(f"benchmarks/overhead.py failed in {checkout}: {ended.stderr.decode(errors='replace')}")
    found = msgspec.json.decode(ended.stdout, type=_Overhead)
    over_http = {name: getattr(found.http, key) for key, name in HTTP.items()}
    return over_http | {f"the ring in process, {one.problems:,} in flight": one.cpu for one in found.in_process}


def row(name: str, here: list[float], there: list[float]) -> Row:
    """Return the medians of the rounds."""
    ratio = median(one / other for one, other in zip(here, there, strict=True))
    return Row(name, round(median(here), 1), round(median(there), 1), round(ratio, 3))


def table(rows: list[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [f"| {one.name} | {one.here:.0f} | {one.before:.0f} | {one.ratio:.2f} |\n" for one in rows]
    return "".join(["| CPU µs per step | here | before | here / before |\n|---|---|---|---|\n", *lines])


if __name__ == "__main__":
    cyclopts.run(main)
