"""The pocket benchmark with its four models behind four real sglang servers, beside the same run in process.

    just sglang-env
    python benchmarks/servers.py --limit 50

Needs no GPU: the servers run on the CPU (``arbiter/serving/sglang_cpu``), about 2 GB of memory each. At temperature 0
the transcripts should be the same; each that is not is shown at its first different step.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import cyclopts
import msgspec
from rich.console import Console

import arbiter.pocket
from arbiter.bench import bench
from arbiter.config import Config, load_config, override, parse
from arbiter.model_tables import ModelTables
from arbiter.progress import PlainWatcher
from arbiter.results import Result, Summary
from arbiter.run_tables import RunType
from arbiter.runs import read_records
from arbiter.serving.engines import CPU
from protocols.records import Solution

MODELS = Path(arbiter.pocket.__file__).parent / "models"
SCORERS = ("prm", "router")
FLAGS = (
    "--host 127.0.0.1 --device cpu --dtype float32 --attention-backend torch_native "
    "--max-total-tokens 16384 --enable-cache-report"
)
READY_SECONDS = 180

console = Console(stderr=True, emoji=False)


def main(
    *,
    limit: int = 50,
    run_type: RunType = "router",
    python: Path = Path(".sglang/bin/python"),
    backend: str = "http",
    port: int = 30100,
    json: bool = False,
) -> int:
    """Start the servers with the interpreter ``python``, run both ways, compare; 1 if a transcript differs."""
    config = override(load_config("pocket"), {"run_type": run_type, "data": {"limit": limit}}, "command line")
    ports = {name: port + index for index, name in enumerate(ModelTables.__struct_fields__)}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        logs = {name: Path(folder) / f"{name}.log" for name in ports}
        servers = {name: stack.enter_context(served(python, name, ports[name], logs[name])) for name in ports}
        for name, server in servers.items():
            wait_until_ready(name, server, ports[name], logs[name])
        there = solved(behind_servers(config, ports, backend), Path(folder) / "served")
    with tempfile.TemporaryDirectory() as folder:
        here = solved(config, Path(folder) / "here")
    different = differing(here[1], there[1])
    if json:
        found = {"problems": len(here[1]), "different": different, "in_process": here[0], "served": there[0]}
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        tell(here, there, different)
    return int(bool(different))


def behind_servers(config: Config, ports: Mapping[str, int], backend: str) -> Config:
    """``config`` with servers in the place of its models."""
    return parse({**msgspec.to_builtins(config), "models": tables(ports, backend)}, "servers")


def tables(ports: Mapping[str, int], backend: str) -> dict[str, Any]:
    """The model tables of the pocket configuration, with servers in the place of models in process."""
    pocket = load_config("pocket").models
    found: dict[str, Any] = {}
    for name, number in ports.items():
        table = getattr(pocket, name)
        found[name] = {
            "backend": backend,
            "url": f"http://127.0.0.1:{number}",
            "model": str(MODELS / name),
            "prompt": table.prompt,
            "annotate": table.annotate,
            "in_flight": 64,
        }
        if backend == "openai":
            found[name]["api_key_env"] = "HOME"  # the servers take any key, and the SDK wants one
    return found


@contextmanager
def served(python: Path, name: str, port: int, log: Path) -> Generator[subprocess.Popen[bytes]]:
    """A server of the pocket model ``name``, stopped when the block ends."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(CPU),
        "SGLANG_USE_CPU_ENGINE": "1",
        "OMP_NUM_THREADS": "1",
        "SGLANG_CPU_OMP_THREADS_BIND": "1",
    }
    command = [str(python), "-m", "sglang.launch_server", "--model-path", str(MODELS / name), "--port", str(port)]
    command += [*FLAGS.split(), *(["--is-embedding"] if name in SCORERS else [])]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_ready(name: str, server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Return once the server answers ``/ready``."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2):
                console.print(f"{name} is ready", highlight=False)
                return
        except OSError:
            time.sleep(1)
    raise SystemExit(
        f"the server of {name} ended or is not ready after {READY_SECONDS} s; it wrote:\n{log.read_text()[-2000:]}"
    )


def solved(config: Config, folder: Path) -> tuple[Summary, dict[str, Solution]]:
    """The summary of a run, and its solutions by problem."""
    summary, path = anyio.run(partial(bench, config, folder, PlainWatcher(console)))
    results = read_records(path / "results.jsonl", Result)
    return summary, {result.solution.problem: result.solution for result in results}


def differing(here: Mapping[str, Solution], there: Mapping[str, Solution]) -> list[str]:
    """The problems whose transcripts are not the same."""
    return [problem for problem, solution in here.items() if texts(solution) != texts(there.get(problem))]


def tell(
    here: tuple[Summary, dict[str, Solution]], there: tuple[Summary, dict[str, Solution]], different: list[str]
) -> None:
    """Print both summaries' figures, and each transcript that differs."""
    out = Console(emoji=False, soft_wrap=True, highlight=False)
    for place, (summary, _) in (("in process", here), ("sglang", there)):
        accuracy = "–" if summary.accuracy is None else f"{summary.accuracy:.1%}"
        calls = ", ".join(f"{model} {calls.requests}" for model, calls in summary.calls.items())
        cached = sum(tokens.cached for tokens in summary.tokens.values())
        out.print(
            f"{place:<11} accuracy {accuracy}, {summary.steps} steps, {summary.failed} failed, requests: {calls}, "
            f"{cached} of {sum(tokens.prompt for tokens in summary.tokens.values())} tokens read from a cache"
        )
    for problem in different:
        mine, theirs = texts(here[1][problem]), texts(there[1].get(problem))
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(mine, theirs, strict=False)))
        out.print(
            f"{problem} differs from step {same + 1} on:\n  in process {mine[same:]}\n  sglang     {theirs[same:]}"
        )
    out.print(f"{len(here[1]) - len(different)} of {len(here[1])} transcripts are the same")


def texts(solution: Solution | None) -> list[tuple[str, str]]:
    """Each step's author and text."""
    return [] if solution is None else [(step.kept.author, step.kept.text) for step in solution.steps]


if __name__ == "__main__":
    sys.exit(cyclopts.App(default_command=main, result_action="return_value")())
