"""Resume a long run of which the log is generated: how long until its first new request, and how much memory it takes.

    python benchmarks/large_resume.py [--problems 200000] [--steps 10] [--folder FOLDER] [--json]

Each problem has ``steps`` steps. All problems have ended but the last 100, which have half of their steps. A process of
its own resumes the run with scripted models, and ends at its first request. The log of a real problem is the pattern.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import anyio
import cyclopts
import msgspec
from child_environment import child_environment
from cyclopts import Parameter
from silent_watcher import SilentWatcher

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, parse
from arbiter.data import Problem
from arbiter.log.checksums import Checksums
from arbiter.log.reader import LOG
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run

UNFINISHED = 100
TEXT = "We multiply the first number by the second one, carry the ten, and write the sum below."


class Figures(msgspec.Struct):
    """``bytes`` of the log, and until the first new request: ``seconds``, those of CPU, and the most memory in MiB."""

    bytes: int
    seconds: float
    cpu: float
    memory: float


def main(
    *,
    problems: int = 200_000,
    steps: int = 10,
    folder: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Generate a log, resume its run, and print the figures."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        run = Path(name) / "run"
        anyio.run(generate, run, problems, steps)
        size = sum(path.stat().st_size for path in run.rglob("*.jsonl"))
        command = [sys.executable, __file__, "resume", str(run), str(problems), str(steps)]
        ended = subprocess.run(command, capture_output=True, check=True, env=child_environment())  # noqa: S603 - ours
        found = Figures(size, *msgspec.json.decode(ended.stdout, type=tuple[float, float, float]))
    sys.stdout.write((msgspec.json.encode(found).decode() if as_json else str(found)) + "\n")


def a_config() -> Config:
    """The configuration of the run."""
    model = {"model": "scripted", "prompt": "{question}"}
    tables = dict.fromkeys(("draft", "target", "prm"), model)
    return parse({"models": tables, "run_type": "rsd", "limits": {"problems": 64, "max_steps": 1000}}, "resume")


def listed(problems: int) -> list[Problem]:
    """The problems of the run. Their ids have the same length."""
    return [Problem(f"p{number:07}", TEXT, "7") for number in range(problems)]


def models(steps: int, stops: bool) -> Models:
    """Models that need ``steps`` steps for a problem. With ``stops``, the first request ends the program."""

    def write(request: GenerationRequest) -> Generation:
        if stops:
            report()
        last = request.step == steps - 1  # equal steps would end the problem as a loop
        return Generation(
            "\\boxed{7}" if last else f"{TEXT} {request.step}", "end" if last else "separator", Usage(200, 25)
        )

    def rate(_request: ScoreRequest) -> float:
        return 0.9

    return Models(
        draft=ModelHandle(ScriptedGenerator(write), 64),
        target=ModelHandle(ScriptedGenerator(write), 64),
        scorers={"prm": ModelHandle(ScriptedScorer(rate), 64)},
    )


async def generate(folder: Path, problems: int, steps: int) -> None:
    """Write the log of a run of which the last problems are unfinished."""
    config = a_config()
    async with open_run(config, listed(problems), folder):
        pass  # the first line of the log, which names the problems, is there
    head = (folder / LOG).read_bytes().splitlines(keepends=True)[0]
    pattern = folder.parent / "pattern"
    (problem,) = listed(1)
    async with open_run(config, [problem], pattern) as run:
        await run_problems(config, [problem], models(steps, stops=False), run, SilentWatcher())
    lines = [line for line in map(plain, (pattern / LOG).read_bytes().splitlines()) if b'"problem":' in line]
    checksums = Checksums()
    checksums.verified(head)
    with (folder / LOG).open("wb") as log:
        log.write(head)
        for batch in batches(lines, problem.id.encode(), problems):
            log.write(checksums.added(batch))


def plain(line: bytes) -> bytes:
    """Return the object of a line of a log without its checksum."""
    return line.rpartition(b',"c":"')[0] + b"}"


def batches(lines: list[bytes], pattern: bytes, problems: int) -> Iterator[bytes]:
    """Yield the lines of each problem, without checksums. The first line of the log is another one."""
    seq = 1
    for number in range(problems):
        kept = lines if number < problems - UNFINISHED else lines[: len(lines) // 2]
        name, numbered = b"p%07d" % number, list[bytes]()
        for line in kept:
            before, _, after = line.partition(b'"seq":')
            numbered.append(b'%s"seq":%d%s\n' % (before, seq, after[after.index(b",") :]))
            seq += 1
        yield b"".join(numbered).replace(pattern, name)


BEGUN = time.monotonic()


def report() -> None:
    """Print how long this process has run, and the most memory that it had, and end it."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent = round(time.monotonic() - BEGUN, 2), round(time.process_time(), 2), round(memory, 1)
    sys.stdout.write(msgspec.json.encode(spent).decode())
    sys.stdout.flush()
    os._exit(0)  # as if it was killed


def resume(run: Path, problems: int, steps: int) -> None:
    """Resume the run in ``run`` until its first request."""

    async def go_on() -> None:
        config, every = a_config(), listed(problems)
        async with open_run(config, every, run) as folder:
            await run_problems(config, every, models(steps, stops=True), folder, SilentWatcher())

    anyio.run(go_on)


if __name__ == "__main__":
    app = cyclopts.App(default_command=main)
    app.command(resume)
    app()
