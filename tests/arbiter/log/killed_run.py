"""A run of scripted models that take a few milliseconds: ``killed_run.py FOLDER ASKED [BYTES]``.

Each request to a model is a line of the file ``ASKED`` before it is answered. With ``BYTES`` no file may grow larger.
"""

import hashlib
import os
import resource
import sys
from pathlib import Path

import anyio

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import parse
from arbiter.data import Problem
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run
from benchmarks.silent_watcher import SilentWatcher

PROBLEMS = [Problem(str(n), f"question {n}", "7") for n in range(40)]


def drawn(*parts: object) -> int:
    return hashlib.blake2b(repr(parts).encode(), digest_size=1).digest()[0]


def models(asked: int) -> Models:
    def seconds(request: GenerationRequest | ScoreRequest) -> float:
        os.write(asked, f"{request.call}\n".encode())
        return drawn("seconds", request.call) / 25_000

    def write(request: GenerationRequest) -> Generation:
        last = request.step == 4 + drawn(request.problem) % 4
        text = "\\boxed{7}" if last else f"{request.author} {drawn(request.transcript)} " + "and so on " * 5
        return Generation(text, "end" if last else "separator", Usage(9, 3))

    def rate(request: ScoreRequest) -> float:
        return drawn(request.candidate, request.step) / 256

    return Models(
        draft=ModelHandle(ScriptedGenerator(write, seconds), 4),
        target=ModelHandle(ScriptedGenerator(write, seconds), 4),
        scorers={"prm": ModelHandle(ScriptedScorer(rate, seconds), 4)},
    )


async def main(folder: Path, asked: Path) -> None:
    model = {"model": "scripted", "prompt": "{question}"}
    tables = dict.fromkeys(("draft", "target", "prm"), model)
    config = parse({"models": tables, "run_type": "oracle", "limits": {"problems": 8}}, "test")
    to = os.open(asked, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with open_run(config, PROBLEMS, folder) as run:
        await run_problems(config, PROBLEMS, models(to), run, SilentWatcher())


if __name__ == "__main__":
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    anyio.run(main, Path(sys.argv[1]), Path(sys.argv[2]))
