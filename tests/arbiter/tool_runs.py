"""Runs of scripted models that call tools: problems, models, and the tools that they are offered."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import httpx2

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, parse
from arbiter.data import Problem
from arbiter.data.conversation import Message
from arbiter.gateway.app import Gateway
from arbiter.gateway.inprocess_client import BASE, open_http_client
from arbiter.library.arbiter import Arbiter
from arbiter.log.run import Run
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, Scorer
from arbiter.protocols.records import ScoreKind, Turn, Usage
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run
from benchmarks.silent_watcher import SilentWatcher

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "description": "a secret"}}, "required": ["a"]}
RULES = AnswerRules((Tool("add", "Adds one.", json.dumps(SCHEMA)),))
EXPECTED = '[{"name": "add", "arguments": {"a": 1}}]'
CALL = '{"name": "add", "arguments": {"a": 1}}'
AFTER = (Turn("assistant", "", (ToolCall("c1", "add", '{"a": 41}'),)), Turn("tool", "forty-two", call_id="c1"))
PROBLEMS = [
    *(Problem(name, f"{name}: 1+1?", EXPECTED, rules=RULES) for name in ("kept", "broken", "stubborn", "wrong")),
    Problem("told", "1+1+1?", "3", turns=(Turn("system", "Be brief."),), after=AFTER, rules=RULES),
]
"""By what the draft writes: calls that are kept, break the rules (twice), or are wrong, and an answer without calls.

For ``stubborn``, the target's first try breaks the rules as well."""


def agent(request: GenerationRequest, wrong: int) -> Generation:
    """Think, and then call a tool, or answer if its result is there. ``wrong`` is the argument for that problem."""
    if request.step == 0:
        return Generation("I think.", "separator", Usage(5, 2))
    if request.transcript.after:
        return Generation("It is \\boxed{3}.", "end", Usage(9, 3))
    is_first = request.constraint is None
    breaks = {"broken": request.author == "draft", "stubborn": is_first}.get(request.problem, False)
    value = '"secret"' if breaks else str(wrong) if request.problem == "wrong" else "1"
    return Generation("I add.", "end", Usage(9, 4), calls=(ToolCall("", "add", f'{{"a": {value}}}'),))


SECOND = '{"name": "add", "arguments": {"a": 2}}'
BOTH = [Problem("both", "1+1, and 2+2?", f"[{CALL}, {SECOND}]", rules=RULES)]
"""A problem whose answer makes two calls, of which the draft writes the second one wrong."""


def both_models(watch: Callable[[GenerationRequest], object] = lambda _: None) -> Models:
    """Models that make the calls of ``BOTH`` in one answer. They go on after those that they read."""

    def write(request: GenerationRequest) -> Generation:
        watch(request)
        made = sum(len(step.calls) for step in request.transcript.steps)
        second = '"secret"' if request.author == "draft" else "2"
        calls = tuple(ToolCall("", "add", f'{{"a": {value}}}') for value in ("1", second)[made:])
        return Generation("" if made else "I add.", "end", Usage(9, 8), calls=calls)

    scorers: dict[ScoreKind, ModelHandle[Scorer]] = {"router": ModelHandle(ScriptedScorer(lambda _: 0.1))}
    return Models(
        draft=ModelHandle(ScriptedGenerator(write)), target=ModelHandle(ScriptedGenerator(write)), scorers=scorers
    )


def tool_models(watch: Callable[[GenerationRequest], object] = lambda _: None, wrong: int = 7) -> Models:
    """Models whose router accepts each draft. ``watch`` is called with each request for a step."""

    def write(request: GenerationRequest) -> Generation:
        watch(request)
        return agent(request, wrong)

    kinds: tuple[ScoreKind, ...] = ("router", "prm")
    return Models(
        draft=ModelHandle(ScriptedGenerator(write)),
        target=ModelHandle(ScriptedGenerator(write)),
        scorers={kind: ModelHandle(ScriptedScorer(lambda _: 0.1)) for kind in kinds},
    )


def record_run(config: Config, out: Path, models: Models, problems: Sequence[Problem] = PROBLEMS) -> Run:
    """Solve the problems in a run folder, or continue the run there."""

    async def solve() -> None:
        with anyio.fail_after(60):
            async with open_run(config, problems, out) as folder:
                await run_problems(config, problems, models, folder, SilentWatcher())

    anyio.run(solve)
    return Run.open(out)


TOOL = {"type": "function", "function": {"name": "add", "description": "Adds one.", "parameters": SCHEMA}}


def library_run(config: Config, out: Path) -> Run:
    """Call a tool through the library, and answer with its result."""

    async def solve() -> None:
        async with Arbiter(_without_tables(config), models=tool_models(), out=out) as arbiter:
            messages: list[Message] = [{"role": "user", "content": "1+1+1?"}]
            solution = await arbiter.solve(messages, tools=[TOOL])
            [call] = solution.tool_calls
            function = {"name": call.name, "arguments": call.arguments}
            messages.append({"role": "assistant", "tool_calls": [{"id": call.id, "function": function}]})
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "forty-two"})
            await arbiter.solve(messages, tools=[TOOL])

    anyio.run(solve)
    return Run.open(out)


def _without_tables(config: Config) -> Config:
    """The configuration without tables of models, whose tokenizers nothing has to load."""
    return parse({"models": {}, "run_type": config.run_type, "log": {"record": config.log.record}}, "test")


def served_run(config: Config, out: Path) -> Run:
    """The same as ``library_run``, through the endpoint."""

    async def solve() -> None:
        arbiter = Arbiter(_without_tables(config), models=tool_models(), out=out)
        gateway = Gateway(arbiter)
        async with arbiter, open_http_client(gateway.app, httpx2) as client:
            messages: list[Message] = [{"role": "user", "content": "1+1+1?"}]
            body = {"model": "arbiter", "tools": [TOOL]}
            answer = await client.post(f"{BASE}/v1/chat/completions", json={**body, "messages": messages})
            message = answer.json()["choices"][0]["message"]
            [call] = message["tool_calls"]
            messages += [message, {"role": "tool", "tool_call_id": call["id"], "content": "forty-two"}]
            answer = await client.post(f"{BASE}/v1/chat/completions", json={**body, "messages": messages})
            assert answer.json()["choices"][0]["finish_reason"] == "stop"

    anyio.run(solve)
    return Run.open(out)
