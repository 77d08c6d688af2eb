"""``arbiter solve``: solve one question and show each step as it is kept."""

from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec
from rich.markup import escape

from arbiter.cli.console import FAILED, guarded, stderr, stdout
from arbiter.cli.endings import say
from arbiter.cli.model_options import NO_MODELS, ModelOptions, origin
from arbiter.cli.overrides import PolicyOverrides
from arbiter.cli.terminal import write_json
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.data.offered_tools import ToolLike
from arbiter.library.arbiter import Arbiter
from arbiter.library.questions import Overrides
from arbiter.protocols.errors import ConfigError, DataError
from arbiter.protocols.records import Author, Solution, StepRecord
from arbiter.runs.progress import loading_line

_COLOURS: dict[Author, str] = {"draft": "cyan", "target": "magenta"}
_PLAIN = PolicyOverrides()


def solve_command(
    question: str,
    /,
    *,
    config: str | None = None,
    overrides: PolicyOverrides = _PLAIN,
    models: ModelOptions = NO_MODELS,
    tools: Path | None = None,
    tool_choice: str | None = None,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Solve one question. Each step is printed as soon as it is kept, in the colour of its author.

    After each step come its author and the score that decided. After an escalation, this is the score of the rejected
    draft. If the answer calls tools, its calls are printed in place of the answer.

    Examples:

        arbiter solve "Compute (12+30)*7."
        arbiter solve "Start with 58. Multiply by 6. Subtract 77. What is the result?"
        arbiter solve "Compute (12+30)*7." --run-type rsd --threshold 0.8
        arbiter solve "How many divisors does 196 have?" --draft ./draft --target http://localhost:30001
        arbiter solve "How many divisors does 196 have?" --config mine.toml --json
        arbiter solve "How warm is it in Oslo?" --config mine.toml --tools tools.json

    Parameters
    ----------
    question
        The question. The pocket models can solve only problems like those in the first two examples.
    config
        A configuration file, or the name of a built-in configuration. `--draft` and `--target` name the models instead.
        Default: `pocket`.
    tools
        A JSON file with the list of the tools that the answer may call, in OpenAI's form. No tool is run.
    tool_choice
        Whether the answer may call tools (`auto`), must call one (`required`), or must not (`none`); or the name of the
        tool that it must call. Needs `--tools`. Default: `auto`.
    json
        Print only the whole solution, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        if not question.strip():
            raise DataError("the question is empty: give a text, as in arbiter solve 'Compute (12+30)*7.'")
        chosen = overrides.load(origin(config, models, overrides.run_type, "pocket"))
        return anyio.run(_solve, question, chosen, _offered(tools, tool_choice), json)

    return guarded(debug, action)


def _offered(tools: Path | None, choice: str | None) -> Overrides:
    """Return the tools of a file, as overrides. Raises ``DataError`` and ``ConfigError``."""
    if tools is None:
        if choice is not None:
            raise ConfigError("--tool-choice needs tools to choose from: name their file with --tools")
        return {}
    try:
        found: Any = msgspec.json.decode(tools.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"--tools {tools}: cannot read the tools: {error}") from error
    if not isinstance(found, list):
        raise DataError(f"--tools {tools}: the file must have a list of tools in OpenAI's form")
    offered = cast("list[ToolLike]", found)
    return {"tools": offered} if choice is None else {"tools": offered, "tool_choice": choice}


async def _solve(question: str, config: Config, offered: Overrides, as_json: bool) -> int:
    show = None if as_json else _show
    async with AsyncExitStack() as stack:
        with _loading(config):
            arbiter = await stack.enter_async_context(Arbiter(config, run_types=[config.run_type]))
        solution = await arbiter.run(arbiter.task(Problem("question", question), **offered), show)
    if as_json:
        write_json(solution)
    else:
        _conclude(solution)
    if solution.error is not None:
        stderr.print(f"[red]error:[/red] {escape(solution.error)}", highlight=False, soft_wrap=True)
    return FAILED if solution.finish_reason == "failed" else 0


def _loading(config: Config) -> AbstractContextManager[object]:
    """Say what is loaded. On a terminal the line is removed when it is there."""
    if stderr.is_interactive:
        return stderr.status(escape(loading_line(config)))
    say(loading_line(config))
    return nullcontext()


def _show(step: StepRecord) -> None:
    kept, draft = step.kept, step.draft
    score = draft.score if draft is not None and step.verdict != "keep_target" else kept.score
    note = kept.author if score is None else f"{kept.author}, {score:.3f}"
    colour = _COLOURS[kept.author]
    stdout.print(f"[{colour}]{escape(kept.text)}[/{colour}]  [dim]{note}[/dim]\n", highlight=False, soft_wrap=True)


def _conclude(solution: Solution) -> None:
    drafted = sum(step.kept.author == "draft" for step in solution.steps)
    tokens = ", ".join(
        f"{model} {counts.usage.completion_tokens}" for model, counts in solution.requests.items() if model in _COLOURS
    )
    calls = "\n".join(call.text for call in solution.tool_calls)
    answer = calls or solution.answer or "no answer found"
    stdout.print(f"[bold]{escape(answer)}[/bold]", highlight=False, soft_wrap=bool(calls))
    stdout.print(
        f"[dim]{solution.finish_reason}; {drafted} of {len(solution.steps)} steps from the draft; "
        f"tokens written: {tokens}; {solution.seconds:.2f} s[/dim]",
        highlight=False,
        soft_wrap=not stdout.is_terminal,
    )
