"""Runs of scripted models whose files are damaged, and the commands that read them."""

import contextlib
import gzip
import io
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec
from silent_watcher import SilentWatcher

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.cli.diff import diff_command
from arbiter.cli.replay import replay_command
from arbiter.cli.report import report_command
from arbiter.cli.show import show_command
from arbiter.config.config import load_config
from arbiter.data import Problem
from arbiter.exports.html import write_page
from arbiter.log.reader import LOG
from arbiter.log.run import Run
from arbiter.protocols.errors import ArbiterError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run, read_records
from arbiter.runs.results import Result
from arbiter.training.training_data import read_rows

PACKED = LOG + ".gz"
_PROBLEMS = [Problem(f"problem-{n}", f"Compute {n}+{n + 7}.", str(2 * n + 7)) for n in range(4)]
_RUNS: dict[str, dict[str, Any]] = {
    "router": {"run_type": "router"},
    "oracle": {"run_type": "oracle", "sampling": {"temperature": 0.7, "target_samples": 2}},
    "generate": {"run_type": "generate", "sampling": {"temperature": 0.7, "samples": 2}},
    "redacted": {"run_type": "rsd", "log": {"record": "redacted"}, "audit": 0.5},
    "resumed": {"run_type": "random", "lookahead": 1},
}
NAMES = tuple(_RUNS)


class Outcome(msgspec.Struct, frozen=True):
    """What a command did: its exit status, its output and its messages. ``crashed`` has a traceback's last line."""

    status: int
    output: str = ""
    messages: str = ""
    crashed: str | None = None


Reader = Callable[[Path], Outcome]


def write_runs(folder: Path) -> None:
    """Write a run folder for each of ``NAMES`` into ``folder``. The last one has two sessions."""
    for name in NAMES:
        _solve(folder / name, name)
    log = folder / "resumed" / LOG
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[: len(lines) // 2]))
    _solve(folder / "resumed", "resumed")


def copy_run(source: Path, target: Path, packed: bool) -> Path:
    """Copy a run folder. Return the log in the copy, which is compressed if ``packed``."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    log = target / LOG
    if packed:
        (target / PACKED).write_bytes(gzip.compress(log.read_bytes(), mtime=0))
        log.unlink()
        return target / PACKED
    return log


def readers(name: str, source: Path, file: str) -> Mapping[str, Reader]:
    """Return the commands that read ``file`` of the run ``name``, whose undamaged folder is ``source``."""
    one = _PROBLEMS[1].id
    of_log: dict[str, Reader] = {
        "show": lambda run: _called(show_command, run, json=True),
        "show problem": lambda run: _called(show_command, run, one, json=True),
        "replay": lambda run: _called(replay_command, run, json=True),
        "diff": lambda run: _called(diff_command, source, run, json=True),
    }
    verify: dict[str, Reader] = {"show --verify": lambda run: _called(show_command, run, verify=True)}
    match file:
        case "events.jsonl":
            return {**of_log, **verify, "export --html": _export, "resume": lambda run: _resume(run, name)}
        case "events.jsonl.gz":
            return {**of_log, **verify, "export --html": _export}
        case "rows.jsonl":
            return {**verify, "read_rows": lambda run: _refusing(_rows, run)}
        case _:
            return {**verify, "report": lambda run: _called(report_command, run, json=True)}


def _called(command: Callable[..., int], *arguments: object, **options: object) -> Outcome:
    output, messages = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(messages):
            status = command(*arguments, **options)
    except Exception as error:
        return Outcome(1, crashed=f"{type(error).__name__}: {error}")
    return Outcome(status, output.getvalue(), messages.getvalue())


def _export(run: Path) -> Outcome:
    page = run.with_name("page.html")
    page.unlink(missing_ok=True)

    def export(path: Path) -> int:
        write_page(Run.open(path), page)
        return 0

    outcome = _refusing(export, run)
    return outcome if outcome.status else msgspec.structs.replace(outcome, output=page.read_text(encoding="utf-8"))


def _rows(run: Path) -> int:
    print(read_rows(run))  # noqa: T201 - the output is compared
    return 0


def _resume(run: Path, name: str) -> Outcome:
    copy = run.with_name("resumed copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)

    def resume(path: Path) -> int:
        _solve(path, name)
        return 0

    outcome = _refusing(resume, copy)
    if outcome.status:
        return outcome
    results = read_records(copy / "results.jsonl", Result)
    kept = sorted(
        (
            result.solution.problem,
            result.solution.sample,
            [(step.kept.author, step.kept.text) for step in result.solution.steps],
            result.solution.finish_reason,
            msgspec.to_builtins(result.grade),
            str(result.reference),
        )
        for result in results
    )
    return Outcome(0, msgspec.json.encode(kept).decode())


def _refusing(action: Callable[[Path], int], path: Path) -> Outcome:
    """Call ``action`` as a command does, which prints the message of an error of Arbiter."""

    def command(given: Path) -> int:
        try:
            return action(given)
        except ArbiterError as error:
            messages.append(str(error))
            return 2

    messages: list[str] = []
    outcome = _called(command, path)
    return msgspec.structs.replace(outcome, messages=outcome.messages + "\n".join(messages))


def _solve(folder: Path, name: str) -> None:
    config = load_config("pocket", _RUNS[name])

    async def main() -> None:
        async with open_run(config, _PROBLEMS, folder) as opened:
            await run_problems(config, _PROBLEMS, _models(), opened, SilentWatcher())

    anyio.run(main)


def _models() -> Models:
    def write(request: GenerationRequest) -> Generation:
        drawn = _drawn(request.author, request.step, str(request.transcript), request.sample)
        number = int(100 * drawn)
        text = f"Step {request.step} of the {request.author}: \\boxed{{{number}}}"
        return Generation(text, "end" if request.step == 4 or drawn < 0.1 else "separator", Usage(40, 9 + number, 30))

    def rate(request: ScoreRequest) -> float:
        return _drawn(request.score_kind, str(request.transcript), request.candidate)

    generator, scorer = ModelHandle(ScriptedGenerator(write)), ModelHandle(ScriptedScorer(rate))
    return Models(draft=generator, target=generator, scorers={"prm": scorer, "router": scorer})


def _drawn(*parts: object) -> float:
    """Return a number in [0, 1) that depends only on ``parts``."""
    return zlib.crc32(repr(parts).encode()) / 2**32
