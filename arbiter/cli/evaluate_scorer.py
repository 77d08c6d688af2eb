"""``arbiter evaluate prm`` and ``judge``: measure how often a scorer finds the first wrong step of a solution."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import anyio
from cyclopts import Parameter
from rich.markup import escape

from arbiter.cli.console import guarded, print_rows, stderr, stdout
from arbiter.cli.endings import say
from arbiter.cli.terminal import write_json
from arbiter.config.config import Config, load_config
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import ScoreKind
from arbiter.runs.reports.numbers import percent

if TYPE_CHECKING:
    from arbiter.evaluation.first_errors import FirstErrors


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ScorerOptions:
    """The options of ``arbiter evaluate prm`` and ``arbiter evaluate judge``."""

    config: str
    """A configuration file, or the name of a built-in configuration (`pocket`). Its table of the scorer is used."""

    data: Annotated[str, Parameter(allow_leading_hyphen=True)] = "champ"
    """Solutions whose first wrong step is known: `champ` (the extra `champ`), or data of the shape of ProcessBench. Its
    rows have the fields `problem`, `steps` and `label`. It is a file, a folder, or a data set of the Hugging Face hub,
    such as `Qwen/ProcessBench:gsm8k`."""

    limit: int | None = None
    """Evaluate only this number of solutions, the first ones. Default: all."""

    threshold: float = 0.5
    """A step whose score is below this value, from 0 to 1, is called wrong."""

    json: bool = False
    """Print only the figures, as JSON, on standard output."""

    debug: bool = False
    """Show the traceback of an error."""


def evaluate_prm_command(*, options: ScorerOptions) -> int:
    """Evaluate a process reward model on solutions whose first wrong step is known, as ProcessBench does.

    The first step with a score below the threshold is compared with the first wrong step. The figures are the share of
    wrong solutions in which it is found, the share of right solutions in which no step is called wrong, and F1, their
    harmonic mean (docs/how-to/evaluate-a-router.md). Solutions longer than the model's context, and those of requests
    that fail, are not scored; a line says how many.

    Examples:

        arbiter evaluate prm --config mine.toml
        arbiter evaluate prm --config mine.toml --data Qwen/ProcessBench:gsm8k --threshold 0.7
        arbiter evaluate prm --config pocket --data solutions.jsonl --limit 100
    """
    return guarded(options.debug, lambda: _evaluate("prm", options))


def evaluate_judge_command(*, options: ScorerOptions) -> int:
    """Evaluate a judge on solutions whose first wrong step is known, as `arbiter evaluate prm` does.

    Examples:

        arbiter evaluate judge --config mine.toml
        arbiter evaluate judge --config mine.toml --data Qwen/ProcessBench:math --json
    """
    return guarded(options.debug, lambda: _evaluate("judge", options))


def _evaluate(kind: ScoreKind, options: ScorerOptions) -> int:
    if not 0 <= options.threshold <= 1:
        raise ConfigError(f"--threshold {options.threshold:g}: it must be from 0 to 1, as scores are")
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit {options.limit}: it must be 1 or more")
    config = load_config(options.config)
    if config.models.configured().get(kind) is None:
        raise ConfigError(
            f"{options.config} has no table [models.{kind}]: add it, so that there is a model to evaluate"
        )
    found = anyio.run(_figures, kind, config, options)
    if options.json:
        write_json(found)
    else:
        _show(found)
    return 0


async def _figures(kind: ScoreKind, config: Config, options: ScorerOptions) -> "FirstErrors":
    from arbiter.backends.opening import open_tables
    from arbiter.data.annotated_solutions import annotated_solutions
    from arbiter.evaluation.first_errors import first_errors, step_scores, unscored_lines

    solutions = annotated_solutions(options.data, options.limit, config.separator)
    steps = sum(len(solution.steps) for solution in solutions)
    stderr.print(f"scoring {steps} steps of {len(solutions)} solutions", highlight=False)
    tables = {kind: config.models.configured()[kind]}
    async with open_tables(tables, config.cpu_threads, config.adaptive, config.separator) as models:
        scores = await step_scores(solutions, models.scorers[kind], kind, config.separator)
    for line in unscored_lines(scores):
        say(line)
    return first_errors(solutions, scores, options.threshold, options.data, kind)


def _show(found: "FirstErrors") -> None:
    stdout.print(escape(f"{found.scorer} on {found.data}, threshold {found.threshold:g}"), highlight=False)
    print_rows(
        [
            ("solutions", "number", "judged right"),
            ("with a wrong step: the first one is found", str(found.wrong), percent(found.accuracy_wrong)),
            ("without: no step is called wrong", str(found.right), percent(found.accuracy_right)),
            ("F1", str(found.wrong + found.right), percent(found.f1)),
        ]
    )
