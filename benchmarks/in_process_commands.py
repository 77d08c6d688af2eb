"""Commands of this checkout and of another one, in turn, each in a new process."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import msgspec
from fleets import POCKET, say

from arbiter.protocols.errors import ConfigError

HERE = Path(__file__).parent.parent
COMMANDS = {
    "router": ["bench", POCKET],
    "rsd": ["bench", POCKET, "--run-type", "rsd"],
    "oracle": ["bench", POCKET, "--run-type", "oracle"],
    "confidence": ["bench", POCKET, "--run-type", "confidence"],
    "sweep": ["sweep", POCKET, "--run-types", "draft,router", "--thresholds", "0.3,0.5,0.7"],
}

# The command line of a checkout in the working directory; older ones have it in another module.
_PROGRAM = """
import sys
sys.path.insert(0, "")
try:
    from arbiter.cli.main import main
except ModuleNotFoundError:
    from arbiter.cli import main
main()
"""


class CommandRow(msgspec.Struct, frozen=True):
    """CPU seconds of a command, and ratios to the other checkout, if there is one: medians of the rounds.

    ``start`` is the command with one problem, and ``run`` is what the other problems add.
    """

    name: str
    start: float
    run: float
    start_ratio: float | None = None
    run_ratio: float | None = None
    run_wall_ratio: float | None = None
    """The ratio of the wall times of ``run``."""


class Spent(msgspec.Struct, frozen=True):
    """CPU and wall seconds of a finished process."""

    cpu: float
    wall: float

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.cpu - other.cpu, self.wall - other.wall)


def measure_commands(
    names: Sequence[str], before: Path | None, before_python: Path, rounds: int, limit: int
) -> list[CommandRow]:
    """Run the commands ``names`` with one problem and with ``limit`` problems, in each checkout in turn.

    A round runs all of them. A first round, which writes the byte code, does not count.
    """
    sides = [(HERE, Path(sys.executable))] + ([(before, before_python)] if before else [])
    starts: dict[str, list[list[Spent]]] = {name: [] for name in names}  # by round and side
    runs: dict[str, list[list[Spent]]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names:
            say(f"{name}: round {number} of {rounds}")
            spent = [[run(*side, COMMANDS[name], count) for count in (1, limit)] for side in sides]
            if number:
                starts[name].append([start for start, _ in spent])
                runs[name].append([whole - start for start, whole in spent])
    return [_row(name, starts[name], runs[name]) for name in names]


def _row(name: str, starts: list[list[Spent]], runs: list[list[Spent]]) -> CommandRow:
    start, run_alone = (median(here.cpu for here, *_ in rounds) for rounds in (starts, runs))
    if len(starts[0]) == 1:
        return CommandRow(name, start, run_alone)
    return CommandRow(
        name,
        start,
        run_alone,
        start_ratio=_ratio(here.cpu / there.cpu for here, there in starts),
        run_ratio=_ratio(here.cpu / there.cpu for here, there in runs),
        run_wall_ratio=_ratio(here.wall / there.wall for here, there in runs),
    )


def _ratio(ratios: Iterable[float]) -> float:
    return round(median(ratios), 3)


def run(checkout: Path, python: Path, command: list[str], limit: int) -> Spent:
    """Run ``arbiter`` of a checkout. Raises ``ConfigError`` if it fails."""
    folder = Path(tempfile.mkdtemp())
    started = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - a checkout that the user names
            [python, "-c", _PROGRAM, *command, "--limit", str(limit), "--out", folder / "run"],
            cwd=checkout,
            env={key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        shutil.rmtree(folder)
    if status:
        raise ConfigError(f"arbiter {' '.join(command)} failed in {checkout}")
    return Spent(usage.ru_utime + usage.ru_stime, time.monotonic() - started)


def render_commands(rows: list[CommandRow]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| command | start, CPU s | run, CPU s | start / before | run / before | run / before, wall |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.name} | {row.start:.1f} | {row.run:.1f} | {_or_dash(row.start_ratio)} | {_or_dash(row.run_ratio)} "
            f"| {_or_dash(row.run_wall_ratio)} |"
            for row in rows
        ),
    ]
    return "\n".join(lines)


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
