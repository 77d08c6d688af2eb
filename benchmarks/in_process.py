"""Compare the models in process with another checkout, with transformers, and with a real sglang server.

    python benchmarks/in_process.py [--before CHECKOUT] [--before-python PYTHON] [--rounds 5] [--limit 200] [--json]

*Commands* of this checkout and of ``--before`` alternate, each in a new process. A figure is the median of the ratios
of the rounds, and CPU seconds are user and system time of the whole process. A run alone is the command less the same
command with ``--limit 1``. A first round, which writes the byte code, does not count.

*Tokens per CPU second* are those of the pocket target at batches of 1, 16 and 64: this engine, ``generate`` of
transformers, and sglang, if an interpreter with it is found (docs/how-to/start-servers.md). All of them write
``TOKENS`` tokens for the same questions at temperature 0, on one thread.

*Memory* is that of keys and values with 1,000 problems in flight, at its highest, beside ``cache_bytes``.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import anyio
import cyclopts
import msgspec
import torch
from cyclopts import Parameter
from fleets import POCKET, behind_servers, say, serving

from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import open_model
from arbiter.backends.opening import open_generator
from arbiter.backends.prompts import PromptTemplate
from arbiter.config.config import load_config
from arbiter.pocket import resolved, world
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import GenerationRequest, Generator
from arbiter.protocols.records import Transcript

HERE = Path(__file__).parent.parent
BATCHES = (1, 16, 64)
TOKENS = 40
TARGET = "pocket:target"
CACHE_BYTES = 64 << 20
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
    """CPU seconds of a command, whole and of the run alone, and the ratios to the other checkout, if there is one.

    ``wall`` is the ratio of the wall times of the whole command.
    """

    name: str
    start: float
    run: float
    wall: float | None
    start_ratio: float | None
    run_ratio: float | None


class SpeedRow(msgspec.Struct, frozen=True):
    """Tokens per CPU second at a batch size. None: not measured here."""

    batch: int
    engine: float
    transformers: float
    sglang: float | None


class Memory(msgspec.Struct, frozen=True):
    """Bytes of keys and values: the most that were in use, the limit, and how many problems were in flight."""

    most: int
    limit: int
    problems: int


class Found(msgspec.Struct, frozen=True):
    """All results."""

    commands: list[CommandRow]
    speeds: list[SpeedRow]
    memory: Memory


class Spent(msgspec.Struct, frozen=True):
    """CPU and wall seconds of a finished process."""

    cpu: float
    wall: float


def main(
    before: Path | None = None,
    before_python: Path = Path(sys.executable),
    rounds: int = 5,
    limit: int = 200,
    problems: int = 1000,
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
        The number of rounds of commands.
    limit
        The number of problems of each command.
    problems
        The number of problems in flight for the measurement of memory.
    """
    torch.set_num_threads(1)
    sides = [(HERE, Path(sys.executable))] + ([(before, before_python)] if before else [])
    commands = [measure_command(name, sides, rounds, limit) for name in COMMANDS]
    served = sglang_speeds()
    speeds = [measure_speed(batch, rounds, served.get(batch)) for batch in BATCHES]
    found = Found(commands, speeds, measure_memory(problems))
    sys.stdout.write(f"{msgspec.json.encode(found).decode()}\n" if as_json else render(found))


def measure_command(name: str, sides: list[tuple[Path, Path]], rounds: int, limit: int) -> CommandRow:
    """Run a command with one problem and with ``limit`` problems, in each checkout in turn."""
    one: list[list[Spent]] = [[] for _ in sides]
    all_of_them: list[list[Spent]] = [[] for _ in sides]
    for number in range(rounds + 1):
        say(f"{name}: round {number} of {rounds}")
        for side, (checkout, python) in enumerate(sides):
            spent = [run(checkout, python, COMMANDS[name], count) for count in (1, limit)]
            if number:  # the first round writes the byte code
                one[side].append(spent[0])
                all_of_them[side].append(spent[1])
    runs = [
        [whole.cpu - start.cpu for start, whole in zip(*both, strict=True)]
        for both in zip(one, all_of_them, strict=True)
    ]
    ratios = len(sides) > 1
    return CommandRow(
        name,
        start=median(spent.cpu for spent in one[0]),
        run=median(runs[0]),
        wall=ratio([spent.wall for spent in all_of_them[0]], [spent.wall for spent in all_of_them[1]])
        if ratios
        else None,
        start_ratio=ratio([spent.cpu for spent in one[0]], [spent.cpu for spent in one[1]]) if ratios else None,
        run_ratio=ratio(runs[0], runs[1]) if ratios else None,
    )


def ratio(here: Iterable[float], there: Iterable[float]) -> float:
    """Return the median of the ratios of the rounds."""
    return round(median(a / b for a, b in zip(here, there, strict=True)), 3)


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


def questions(count: int) -> list[str]:
    """Return the questions of the first test problems."""
    return [problem.question for problem in itertools.islice(world.problems(1, "test"), count)]


def request(question: str) -> GenerationRequest:
    """Return a request for ``TOKENS`` tokens: the separator does not occur."""
    return GenerationRequest(question, 0, 0, "target", Transcript(question), "####", TOKENS, 0.0, 1.0, 0)


def measure_speed(batch: int, rounds: int, served: float | None) -> SpeedRow:
    """Write the answers to a few batches of questions, in this process, in turn with the engine and transformers."""
    engine, plain = engine_writer(batch), transformers_writer(batch)
    asked = questions(max(2 * batch, 8))
    rates: dict[str, list[float]] = {"engine": [], "plain": []}
    for number in range(rounds + 1):
        for name, write in (("engine", engine), ("plain", plain)):
            started = time.process_time()
            tokens = write(asked)
            if number:
                rates[name].append(tokens / (time.process_time() - started))
    return SpeedRow(batch, round(median(rates["engine"])), round(median(rates["plain"])), served)


def engine_writer(batch: int) -> Callable[[list[str]], int]:
    """Return a function that writes with the engine, and returns the number of tokens."""
    loaded = open_model(TARGET, "generator", device="cpu")

    def write(asked: list[str]) -> int:
        generator = InProcessGenerator(loaded, PromptTemplate(world.PROMPT), batch)
        return anyio.run(partial(written, generator, asked, generator.engine.worker.run))

    return write


async def written(generator: Generator, asked: list[str], serve: Callable[..., Any] | None = None) -> int:
    """Have a generator write the answers, all of them at once, and return the number of tokens."""
    tokens = 0

    async def one(question: str) -> None:
        nonlocal tokens
        answer = await generator.generate(request(question))
        tokens += answer.usage.completion_tokens

    async with anyio.create_task_group() as services:
        if serve is not None:
            await services.start(serve)
        async with anyio.create_task_group() as tasks:
            for question in asked:
                tasks.start_soon(one, question)
        services.cancel_scope.cancel()
    return tokens


def transformers_writer(batch: int) -> Callable[[list[str]], int]:
    """Return a function that writes with ``generate`` of transformers, batch by batch."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    readers: tuple[Any, Any] = (AutoTokenizer, AutoModelForCausalLM)  # typed in part
    tokenizer = readers[0].from_pretrained(resolved(TARGET), padding_side="left")
    model = readers[1].from_pretrained(resolved(TARGET), dtype=torch.float32).eval()
    limits = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False}

    def write(asked: list[str]) -> int:
        with torch.inference_mode():
            for start in range(0, len(asked), batch):
                texts = [world.PROMPT.format(question=question) for question in asked[start : start + batch]]
                model.generate(**tokenizer(texts, padding=True, return_tensors="pt"), **limits)
        return TOKENS * len(asked)

    return write


def sglang_speeds() -> dict[int, float]:
    """Return the tokens per CPU second of an sglang server by batch size; empty if sglang is not installed."""
    config = behind_servers(load_config(POCKET), 31400, {})

    async def measure() -> dict[int, float]:
        table = config.models.target
        assert table is not None  # noqa: S101 - the pocket configuration has a target
        rates: dict[int, float] = {}
        with tempfile.TemporaryDirectory() as logs:
            async with serving(config, POCKET, Path(logs), only=["target"]) as fleet:
                guard = fleet.servers[0].process
                assert guard is not None  # noqa: S101 - it is ready, so it runs
                async with open_generator("target", table, None) as generator:
                    await written(generator, questions(4))
                    for batch in BATCHES:
                        started = cpu_of(guard.pid)
                        tokens = 0
                        asked = questions(max(2 * batch, 8))
                        for start in range(0, len(asked), batch):
                            tokens += await written(generator, asked[start : start + batch])
                        rates[batch] = round(tokens / (cpu_of(guard.pid) - started))
        return rates

    try:
        return anyio.run(measure)
    except ConfigError as error:
        say(f"without sglang: {error}")
        return {}


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process and of its living descendants."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return own + sum(cpu_of(int(child)) for file in children for child in file.read_text(encoding="ascii").split())


def measure_memory(problems: int) -> Memory:
    """Write steps for many problems in flight, and return the most memory of keys and values."""
    loaded = open_model(TARGET, "generator", device="cpu", cache_bytes=CACHE_BYTES)
    generator = InProcessGenerator(loaded, PromptTemplate(world.PROMPT), 128)
    anyio.run(partial(written, generator, questions(problems), generator.engine.worker.run))
    return Memory(generator.engine.peak_bytes, CACHE_BYTES, problems)


def render(found: Found) -> str:
    """Return the tables as Markdown."""
    lines = [
        "| command | start, CPU s | run, CPU s | wall, whole / before | start / before | run / before |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.name} | {row.start:.1f} | {row.run:.1f} | {_or_dash(row.wall)} | {_or_dash(row.start_ratio)} "
            f"| {_or_dash(row.run_ratio)} |"
            for row in found.commands
        ),
        "",
        "| batch | tokens per CPU s | transformers | sglang |",
        "|---|---|---|---|",
        *(
            f"| {row.batch} | {row.engine:,.0f} | {row.transformers:,.0f} | "
            f"{'–' if row.sglang is None else f'{row.sglang:,.0f}'} |"
            for row in found.speeds
        ),
        "",
        f"{found.memory.problems:,} problems in flight: keys and values took at most "
        f"{found.memory.most / 2**20:.1f} MiB; cache_bytes was {found.memory.limit / 2**20:.1f} MiB",
    ]
    return "\n".join(lines) + "\n"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    cyclopts.run(main)
