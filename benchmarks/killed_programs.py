"""The programs that ``benchmarks/kills.py`` kills, with scripted models, and what they leave on disk.

Each request to a model is a line of the file ``requested`` before it is answered. The line is its id, or for the
programs that share answers, a digest of what decides the answer.
"""

import hashlib
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import anyio
import msgspec
from silent_watcher import SilentWatcher

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, parse
from arbiter.data import Problem
from arbiter.data.training_rows import TrainingRow
from arbiter.library.arbiter import Arbiter
from arbiter.log.lock import locked
from arbiter.log.reader import LOG
from arbiter.log.run import Run
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Step, Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.collection import counted, planned, write_collection
from arbiter.runs.folder import open_run, read_records
from arbiter.runs.results import Result
from arbiter.sweep.answer_cache import Request, key_of
from arbiter.sweep.log_answers import answers_of
from arbiter.sweep.points import plan
from arbiter.sweep.runner import SweepJob, run_together
from arbiter.sweep.sweep import settle
from arbiter.training.complete_files import newest_state

PROBLEMS = [Problem(str(n), f"question {n}", "7", split="validation" if n % 3 == 0 else "train") for n in range(30)]
POINTS = "0.3,0.6,0.9"
SPEED = 40_000  # a request takes at most 256 / SPEED seconds


class Program(NamedTuple):
    """A program that works in a folder: its start, the requests that are answered there, and its outcome.

    ``answered`` returns the lines of ``requested`` whose answers are on disk.
    """

    start: Callable[[Path, Path], None]
    answered: Callable[[Path], set[str]]
    outcome: Callable[[Path], Any]


def _drawn(*parts: object) -> int:
    return hashlib.blake2b(repr(parts).encode(), digest_size=1).digest()[0]


def _models(requested: Path, line: Callable[[Request], str] = lambda request: request.call) -> Models:
    to = os.open(requested, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def seconds(request: Request) -> float:
        os.write(to, f"{line(request)}\n".encode())
        return _drawn("seconds", request.call) / SPEED

    def write(request: GenerationRequest) -> Generation:
        last = request.step == 3 + _drawn(request.transcript.question) % 3
        text = "\\boxed{7}" if last else f"{request.author} {_drawn(request.transcript)} " + "and so on " * 5
        return Generation(text, "end" if last else "separator", Usage(9, 3))

    def rate(request: ScoreRequest) -> float:
        return _drawn(request.candidate, request.step) / 256

    return Models(
        draft=ModelHandle(ScriptedGenerator(write, seconds), 4),
        target=ModelHandle(ScriptedGenerator(write, seconds), 4),
        scorers={"prm": ModelHandle(ScriptedScorer(rate, seconds), 4)},
    )


def _content(request: Request) -> str:
    return key_of(request, ()).hex()


def _config(run_type: str) -> Config:
    model = {"model": "scripted", "prompt": "{question}"}
    tables = dict.fromkeys(("draft", "target", "prm"), model)
    return parse({"models": tables, "run_type": run_type, "limits": {"problems": 8}}, "kills")


def _logs(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"**/{LOG}"))


def _answered(folder: Path) -> set[str]:
    """Return the ids of the answered requests in the log of ``folder``. Raises ``RunError`` if it is damaged."""
    return {call.id for problem in _problems(folder) for call in problem.calls.values() if call.outcome is not None}


def _answered_content(folder: Path) -> set[str]:
    """Return the answered requests in the logs of all points. Raises ``RunError`` if one is damaged."""
    points = [log.parent for log in _logs(folder)]
    problems = (problem for point in points for problem in _problems(point))
    return {_content(one.request) for problem in problems for one in answers_of(problem)}


def _transcripts(folder: Path) -> dict[str, Any]:
    """Return the transcripts, finish reasons and grades of the results in ``folder``, without their order."""
    found = {
        result.solution.problem: (
            [(step.kept.author, step.kept.text) for step in result.solution.steps],
            result.solution.finish_reason,
            result.grade,
        )
        for result in read_records(folder / "results.jsonl", Result)
    }
    return {"results": found, "rows": _rows(folder)}


def _rows(folder: Path) -> list[bytes]:
    path = folder / "rows.jsonl"
    rows = read_records(path, TrainingRow) if path.exists() else ()
    return sorted(msgspec.json.encode(row) for row in rows)


def _bench(folder: Path, requested: Path, config: Config | None = None) -> None:
    config = config or _config("oracle")

    async def main() -> None:
        async with open_run(config, PROBLEMS, folder) as run:
            await run_problems(config, PROBLEMS, _models(requested), run, SilentWatcher())

    anyio.run(main)


def _collect(folder: Path, requested: Path) -> None:
    config = _config("generate")
    kept = planned(config, None, 0.2, 0.0)
    write_collection(folder, kept)
    _bench(folder, requested, config)
    write_collection(folder, counted(kept, read_records(folder / "rows.jsonl", TrainingRow), complete=True))


def _sweep(folder: Path, requested: Path) -> None:
    with locked(folder / ".sweep.lock", "sweep"):
        job = SweepJob(plan(_config("rsd"), ["rsd"], [POINTS]), PROBLEMS, folder, SilentWatcher())
        settle(job, measured=False, interrupted=anyio.run(run_together, job, _models(requested, _content)))


def _sweep_outcome(folder: Path) -> dict[str, Any]:
    return {point.parent.name: _transcripts(point.parent) for point in _logs(folder)}


def _serve(folder: Path, requested: Path) -> None:
    """Answer questions until the process is killed. Each session has questions of its own."""
    session = len(list(folder.parent.glob("session-*")))
    (folder.parent / f"session-{session}").touch()

    async def main() -> None:
        async with Arbiter(_config("oracle"), models=_models(requested), out=folder) as arbiter:
            questions = (f"question {session}.{number}" for number in itertools.count())
            async for solution in arbiter.map(questions):
                line = msgspec.json.encode((solution.question, solution.text))
                await anyio.sleep(0.05)  # a client reads an answer after it has crossed a network
                with (folder.parent / "clients").open("ab", buffering=0) as file:
                    file.write(line + b"\n")

    anyio.run(main)


def _served(folder: Path) -> set[str]:
    """Return the answers that clients have read and that are not in the log."""
    kept = {solution.question: solution.text for problem in _problems(folder) if (solution := problem.solution())}
    read = folder.parent / "clients"
    lines = read.read_bytes().splitlines() if read.exists() else ()
    answers = (msgspec.json.decode(line, type=tuple[str, str]) for line in lines)
    return {question for question, text in answers if kept.get(question) != text}


def _problems(folder: Path) -> list[Any]:
    log = folder / LOG
    return list(Run.open(log).problems()) if log.exists() and log.read_bytes().count(b"\n") else []


def _train(folder: Path, _requested: Path) -> None:
    import structlog

    from arbiter.training.router_training import train_router

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    train_router(*_training(folder.parents[1] / "base"), folder, resume=True)


def _training(base: Path) -> tuple[Any, list[TrainingRow]]:
    """Return the settings and the rows of a training from a tiny model in ``base``, which is made if it is missing."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    from arbiter.pocket import resolved, world
    from arbiter.training.router_training import RouterSettings

    if not base.exists():
        reader: Any = AutoTokenizer
        tokenizer = reader.from_pretrained(resolved("pocket:prm"))
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        tokens = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
        shape: Any = LlamaConfig  # transformers is typed in part
        model: Any = LlamaForSequenceClassification(shape(**sizes, **tokens, num_labels=1))
        model.save_pretrained(base)
        tokenizer.save_pretrained(base)
    rng, rows = Random(3), list[TrainingRow]()
    for number, problem in enumerate(itertools.islice(world.problems(9, "train"), 12)):
        for index, step in enumerate(problem.steps):
            rows.append(
                TrainingRow(
                    problem=str(number),
                    question=problem.question,
                    step=index,
                    history=tuple(Step(text, "draft") for text in problem.steps[:index]),
                    draft=step,
                    targets=(step,),
                    draft_score=rng.random(),
                    target_scores=(rng.random(),),
                    split="validation" if number % 3 == 0 else "train",
                )
            )
    return RouterSettings(base=str(base), prompt=world.PROMPT, epochs=3, batch=8, learning_rate=1e-3), rows


def _states(folder: Path) -> set[str]:
    """Return the updates up to the newest complete state, or to the end of the training."""
    state = newest_state(folder / "checkpoints")
    done = 10**6 if (folder / "arbiter.json").exists() else int(state.name.rpartition("-")[2]) if state else 0
    return {str(update) for update in range(min(done, 1000))}


def _weights(folder: Path) -> dict[str, Any]:
    hashed = hashlib.blake2b((folder / "model.safetensors").read_bytes()).hexdigest()
    return {"weights": hashed, "files": sorted(path.name for path in folder.iterdir())}


PROGRAMS: dict[str, Program] = {
    "bench": Program(_bench, _answered, _transcripts),
    "collect": Program(_collect, _answered, _transcripts),
    "sweep": Program(_sweep, _answered_content, _sweep_outcome),
    "serve": Program(_serve, _answered, _served),
    "train": Program(_train, _states, _weights),
}
