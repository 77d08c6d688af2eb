"""Compare the models in process with another checkout, with transformers, and with a real sglang server.

    python benchmarks/in_process.py [--before CHECKOUT] [--before-python PYTHON] [--rounds 5] [--limit 200] [--json]
        [--only router --only sweep --only speeds ...]

*Commands* of this checkout and of ``--before`` alternate, each in a new process, and each round runs all of them. A
figure is the median of the rounds; a ratio is the median of the ratios of the rounds. CPU seconds are user and system
time of the whole process. A run alone is the command less the same command with ``--limit 1``. A first round, which
writes the byte code, does not count.

*Speeds* are tokens of the pocket target per CPU second at batches of 1, 16 and 64: this engine, ``generate`` of
transformers, and sglang, if an interpreter with it is found (docs/how-to/start-servers.md). All of them write
``TOKENS`` tokens for the same questions at temperature 0, on one thread.

*Memory* is that of keys and values with 1,000 problems in flight, at its highest, next to ``cache_bytes``.

``--only`` measures a part: the name of a command, ``speeds`` or ``memory``. It may be repeated.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import anyio
import cyclopts
import msgspec
import torch
from cyclopts import Parameter
from in_process_commands import CommandRow, measure_commands, render_commands
from in_process_speeds import BATCHES, TARGET, SpeedRow, measure_speed, questions, render_speeds, sglang_speeds, written

from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import open_model
from arbiter.backends.prompts import PromptTemplate
from arbiter.pocket import world
from arbiter.protocols.model_traits import KVMemory

CACHE_BYTES = 64 << 20
Part = Literal["router", "rsd", "oracle", "confidence", "sweep", "speeds", "memory"]
COMMAND_NAMES: tuple[Part, ...] = ("router", "rsd", "oracle", "confidence", "sweep")


class Found(msgspec.Struct, frozen=True):
    """The results of the parts that were measured. ``problems`` is how many were in flight to measure the memory."""

    commands: list[CommandRow]
    speeds: list[SpeedRow]
    memory: KVMemory | None
    problems: int


def main(
    before: Path | None = None,
    before_python: Path = Path(sys.executable),
    rounds: int = 5,
    limit: int = 200,
    problems: int = 1000,
    only: tuple[Part, ...] = (*COMMAND_NAMES, "speeds", "memory"),
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure, and print the tables.

    Parameters
    ----------
    before
        The other checkout, for example one made with ``git worktree add ../before ef65c79``.
    before_python
        The interpreter with what the other checkout needs.
    rounds
        The number of rounds.
    limit
        The number of problems of each command.
    problems
        The number of problems in flight for the measurement of memory.
    only
        The parts to measure. Default: all.
    """
    torch.set_num_threads(1)
    names = [name for name in COMMAND_NAMES if name in only]
    commands = measure_commands(names, before, before_python, rounds, limit) if names else []
    speeds: list[SpeedRow] = []
    if "speeds" in only:
        served = sglang_speeds()
        speeds = [measure_speed(batch, rounds, served.get(batch)) for batch in BATCHES]
    found = Found(commands, speeds, measure_memory(problems) if "memory" in only else None, problems)
    sys.stdout.write(f"{msgspec.json.encode(found).decode()}\n" if as_json else render(found))


def measure_memory(problems: int) -> KVMemory:
    """Write steps for many problems in flight, and return the memory of keys and values."""
    loaded = open_model(TARGET, "generator", device="cpu", cache_bytes=CACHE_BYTES)
    generator = InProcessGenerator(loaded, PromptTemplate(world.PROMPT), 128)
    anyio.run(partial(written, generator, questions(problems), generator.engine.worker.run))
    return generator.kv_memory


def render(found: Found) -> str:
    """Return the tables as Markdown."""
    parts = [
        *([render_commands(found.commands)] if found.commands else ()),
        *([render_speeds(found.speeds)] if found.speeds else ()),
        *([_render_memory(found.memory, found.problems)] if found.memory else ()),
    ]
    return "\n\n".join(parts) + "\n"


def _render_memory(memory: KVMemory, problems: int) -> str:
    return (
        f"{problems:,} problems in flight: keys and values took at most {memory.peak / 2**20:.1f} MiB; "
        f"cache_bytes was {memory.limit / 2**20:.1f} MiB"
    )


if __name__ == "__main__":
    cyclopts.run(main)
