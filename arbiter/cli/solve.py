"""``arbiter solve``: one question, its steps shown as they are chosen."""

import sys

import anyio
import msgspec
from rich.markup import escape

from arbiter.cli.console import FAILED, guarded, stderr, stdout
from arbiter.cli.overrides import PolicyOverrides
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.grading import extract_answer
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Author, Solution, StepRecord

_COLOURS: dict[Author, str] = {"draft": "cyan", "target": "magenta"}
_PLAIN = PolicyOverrides()


def solve_command(
    question: str,
    /,
    *,
    config: str = "pocket",
    overrides: PolicyOverrides = _PLAIN,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Solve one question; each step appears when it is chosen, coloured by the model that wrote it.

    Behind a step stands the score by which it was chosen: of the draft's step where it was kept, and of the draft's
    rejected step where the target wrote another one.

    Examples:

        arbiter solve "Compute (12+30)*7."
        arbiter solve "Start with 58. Multiply by 6. Subtract 77. What is the result?" --run-type rsd
        arbiter solve "How many divisors has 196?" --config configs/mine.toml --json

    Parameters
    ----------
    question
        The question. The pocket models know sums like those in the examples.
    config
        A configuration file, or the name of a built-in one.
    json
        Print the whole solution as JSON on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        if not question.strip():
            raise DataError("the question is empty")
        return anyio.run(_solve, question, overrides.load(config), json)

    return guarded(debug, action)


async def _solve(question: str, config: Config, as_json: bool) -> int:
    show = None if as_json else _show
    async with Arbiter(config, run_types=[config.run_type]) as arbiter:
        solution = await arbiter.run(arbiter.task(Problem("question", question)), show)
    if as_json:
        sys.stdout.write(msgspec.json.encode(solution).decode() + "\n")
    else:
        _conclude(solution)
    if solution.error is not None:
        stderr.print(f"[red]error:[/red] {escape(solution.error)}", highlight=False, soft_wrap=True)
    return FAILED if solution.finish_reason == "failed" else 0


def _show(step: StepRecord) -> None:
    kept, draft = step.kept, step.draft
    score = draft.score if draft is not None and step.verdict != "keep_target" else kept.score
    note = kept.author if score is None else f"{kept.author}, {score:.3f}"
    colour = _COLOURS[kept.author]
    stdout.print(f"[{colour}]{escape(kept.text)}[/{colour}]  [dim]{note}[/dim]\n", highlight=False, soft_wrap=True)


def _conclude(solution: Solution) -> None:
    answer = extract_answer(solution.text)
    drafted = sum(step.kept.author == "draft" for step in solution.steps)
    tokens = ", ".join(
        f"{model} {counts.usage.completion_tokens}" for model, counts in solution.requests.items() if model in _COLOURS
    )
    stdout.print(f"[bold]{escape(answer) if answer is not None else 'no boxed answer'}[/bold]", highlight=False)
    stdout.print(
        f"[dim]{solution.finish_reason}; {drafted} of {len(solution.steps)} steps by the draft; "
        f"tokens written: {tokens}; {solution.seconds:.2f} s[/dim]",
        highlight=False,
        soft_wrap=True,
    )
