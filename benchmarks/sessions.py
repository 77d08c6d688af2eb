"""Measure how many prompt tokens a crowded sglang takes from its prefix cache, with and without a session per problem.

    just sglang-env
    python benchmarks/sessions.py [--limit 24] [--concurrency 8] [--crowd 4] [--pool 4096] [--json]

No GPU is needed. Two servers of the pocket target have a cache of ``--pool`` tokens; one keeps sessions. The target
solves pocket problems through the ring. Before each of its steps, the server reads ``--crowd`` prompts of other
clients, which belong to no problem. So the traffic between two steps of a problem is larger than the cache.

After each run its model is closed, other prompts fill the cache twice, and the last context of each problem is sent
again. The exit status is 1 if the server still holds one of them, if a problem failed, or if a transcript differs.
"""

import random
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from fleets import SERVED, say, serving, texts
from markdown_tables import markdown

from arbiter.actors.policies import TargetOnly
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.opening import open_generator
from arbiter.backends.served.completion_answers import complete
from arbiter.backends.served.served_models import open_transport
from arbiter.backends.served.transport import Transport
from arbiter.backends.wrapped_generator import WrappedGenerator
from arbiter.cli.console import guarded
from arbiter.config.config import Config, load_config, parse
from arbiter.config.model_tables import ServedTable
from arbiter.data.loading import load_problems
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle
from arbiter.protocols.records import Limits, Solution, Transcript, Usage
from arbiter.servers.fleet import ServerProcess

PLACES = {"draft": "without sessions", "target": "with a session per problem"}
_OTHER_TOKENS = 200  # about one token for each two characters
_LIMITS = Limits(max_steps=12, max_tokens=300, step_tokens=100)


class Row(msgspec.Struct, frozen=True):
    """A run. ``held`` is the number of problems of which the server still has more than half after the end."""

    place: str
    problems: int
    failed: int
    steps: int
    prompt_tokens: int
    cached_tokens: int
    held: int
    different: int

    @property
    def share(self) -> float:
        """The share of prompt tokens that came from the cache."""
        return self.cached_tokens / max(1, self.prompt_tokens)


class Crowd:
    """Other clients of a server: prompts that do not belong to a problem, and of which no two begin alike."""

    def __init__(self, transport: Transport, model: str, seed: int) -> None:
        self._transport = transport
        self._model = model
        self._draws = random.Random(seed)

    async def ask(self, count: int) -> None:
        """Have the server read ``count`` prompts, one after another."""
        for _ in range(count):
            digits = self._draws.choices("0123456789", k=_OTHER_TOKENS)
            body = {"model": self._model, "prompt": " ".join(digits), "max_tokens": 1, "temperature": 0}
            await complete(self._transport, body, "")

    async def fill(self, pool: int) -> None:
        """Have the server read twice as many tokens as its cache holds."""
        await self.ask(2 * pool // _OTHER_TOKENS)

    async def cached(self, prompt: str) -> Usage:
        """Return what the server counts for ``prompt``."""
        body = {"model": self._model, "prompt": prompt, "max_tokens": 1, "temperature": 0}
        return (await complete(self._transport, body, ""))[1]


class Crowded(WrappedGenerator):
    """A model whose server reads prompts of the ``crowd`` before each step."""

    def __init__(self, inner: Generator, crowd: Crowd, prompts: int) -> None:
        super().__init__(inner)
        self._crowd = crowd
        self._prompts = prompts

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step. Raises as ``inner``."""
        await self._crowd.ask(self._prompts)
        return await self.inner.generate(request)


def main(
    *,
    limit: int = 24,
    concurrency: int = 8,
    crowd: int = 4,
    pool: int = 4096,
    port: int = 30140,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Run ``limit`` pocket problems, ``concurrency`` at a time, at a server without and at one with sessions."""

    def action() -> int:
        rows = anyio.run(partial(_measured, configured(port, pool), limit, concurrency, crowd, pool))
        sys.stdout.write(msgspec.json.encode(rows).decode() if as_json else table(rows))
        sys.stdout.write("\n")
        return int(any(row.failed or row.held or row.different for row in rows))

    return guarded(False, action)


def configured(port: int, pool: int) -> Config:
    """Return the configuration of the two servers: ``draft`` is the one without sessions."""
    target = msgspec.to_builtins(load_config(SERVED).models.target)
    tables = {}
    for index, name in enumerate(PLACES):
        server = {**target["server"], "args": ["--max-total-tokens", str(pool)], "sessions": name == "target"}
        tables[name] = {**target, "url": f"http://127.0.0.1:{port + index}", "server": server}
    return parse({"run_type": "target", "models": tables}, SERVED)


async def _measured(config: Config, limit: int, concurrency: int, crowd: int, pool: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as logs:
        async with serving(config, SERVED, Path(logs)) as fleet:
            rows: list[Row] = []
            reference: dict[str, Solution] = {}
            for server in fleet.servers:
                solutions = await _run(config, server, limit, concurrency, crowd)
                held = await _held(config, server, list(solutions.values()), pool)
                reference = reference or solutions
                rows.append(_row(server, solutions, reference, held))
            return rows


async def _run(config: Config, server: ServerProcess, limit: int, concurrency: int, crowd: int) -> dict[str, Solution]:
    name = server.launch.name
    say(PLACES[name])
    model = _table(config, name)
    solutions: dict[str, Solution] = {}

    async def done(solution: Solution) -> None:
        solutions[solution.problem] = solution

    tasks = [
        Task(problem.id, Transcript(problem.question), TargetOnly(), _LIMITS)
        for problem in load_problems("pocket:1", limit)
    ]
    async with open_transport(name, model) as transport, open_generator(name, model, None) as generator:
        crowded = Crowded(generator, Crowd(transport, model.model, 0), crowd)
        async with open_ring(Models(target=ModelHandle[Generator](crowded))) as ring:
            await solve_all(ring, tasks, concurrency, done)
    return solutions


async def _held(config: Config, server: ServerProcess, solutions: Sequence[Solution], pool: int) -> int:
    """Return of how many problems the server has more than half of the last context, after its cache was filled."""
    name = server.launch.name
    model = _table(config, name)
    async with open_transport(name, model) as transport:
        crowd, held = Crowd(transport, model.model, 1), 0
        await crowd.fill(pool)
        for solution in solutions:
            steps = "".join(f"{step.kept.text}\n\n" for step in solution.steps[:-1])
            usage = await crowd.cached(model.prompt.replace("{question}", solution.question) + steps)
            held += usage.cached_tokens > usage.prompt_tokens / 2
    return held


def _table(config: Config, name: str) -> ServedTable:
    found = config.models.configured()[name]
    assert isinstance(found, ServedTable)  # noqa: S101 - ``configured`` made it
    return found


def _row(server: ServerProcess, solutions: dict[str, Solution], reference: dict[str, Solution], held: int) -> Row:
    counts = [solution.requests["target"].usage for solution in solutions.values() if "target" in solution.requests]
    return Row(
        PLACES[server.launch.name],
        len(solutions),
        sum(solution.finish_reason == "failed" for solution in solutions.values()),
        sum(len(solution.steps) for solution in solutions.values()),
        sum(usage.prompt_tokens for usage in counts),
        sum(usage.cached_tokens for usage in counts),
        held,
        sum(texts(solution) != texts(reference.get(problem)) for problem, solution in solutions.items()),
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    cells = (
        (
            row.place,
            f"{row.problems} ({row.failed} failed)",
            row.steps,
            f"{row.cached_tokens:,} of {row.prompt_tokens:,}",
            f"{row.share:.3f}",
            row.held,
            row.different,
        )
        for row in rows
    )
    header = (
        "server | problems | steps | prompt tokens from the cache | share | problems held after the end "
        "| different transcripts"
    )
    return markdown(header, cells)


if __name__ == "__main__":
    sys.exit(cyclopts.App(default_command=main, result_action="return_value")())
