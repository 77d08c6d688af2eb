"""Runs of scripted models that call tools: problems, models, and the tools that they are offered."""

import json
from collections.abc import Callable
from pathlib import Path

import anyio

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.log.run import Run
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
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


def agent(request: GenerationRequest) -> Generation:
    """Think, and then call a tool, or answer if its result is there."""
    if request.step == 0:
        return Generation("I think.", "separator", Usage(5, 2))
    if request.transcript.after:
        return Generation("It is \\boxed{3}.", "end", Usage(9, 3))
    is_first = request.constraint is None
    breaks = {"broken": request.author == "draft", "stubborn": is_first}.get(request.problem, False)
    value = '"secret"' if breaks else "7" if request.problem == "wrong" else "1"
    return Generation("I add.", "end", Usage(9, 4), calls=(ToolCall("", "add", f'{{"a": {value}}}'),))


def tool_models(watch: Callable[[GenerationRequest], object] = lambda _: None, score: float = 0.1) -> Models:
    """Models whose router gives each draft the ``score``. ``watch`` is called with each request for a step."""

    def write(request: GenerationRequest) -> Generation:
        watch(request)
        return agent(request)

    kinds: tuple[ScoreKind, ...] = ("router", "prm")
    return Models(
        draft=ModelHandle(ScriptedGenerator(write)),
        target=ModelHandle(ScriptedGenerator(write)),
        scorers={kind: ModelHandle(ScriptedScorer(lambda _: score)) for kind in kinds},
    )


def record_run(config: Config, out: Path, models: Models) -> Run:
    """Solve the problems in a run folder, or continue the run there."""

    async def solve() -> None:
        with anyio.fail_after(60):
            async with open_run(config, PROBLEMS, out) as folder:
                await run_problems(config, PROBLEMS, models, folder, SilentWatcher())

    anyio.run(solve)
    return Run.open(out)
